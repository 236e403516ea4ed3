"""What pytest says at the end: a line for each thing that this machine lacks, not one for each test."""

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        # pytest folds what was skipped at one place for one reason.
        _, _, reason = report.longrepr
        report.longrepr = ("tests", 0, reason)
    return report
