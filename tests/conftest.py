"""Which tests are slow, how long examples may take, and one line for each thing that is missing."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# By default Hypothesis fails a test whose example takes 200 ms, or whose examples are drawn slowly. On a busy
# machine any example may.
hypothesis_settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("busy")

# The tests read English, also in a Chinese locale.
os.environ["LANGUAGE"] = "en"

HERE = Path(__file__).parent
#: Modules that run real processes and are quick nevertheless: alone on two cores, a test takes a few seconds.
QUICK = {
    "test_ledger.py",
    "test_worker_start.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _is_slow(item):
            item.add_marker(pytest.mark.slow)


def _is_slow(item: pytest.Item) -> bool:
    """Whether a test outside ``unit`` is slow; those of ``unit`` have the mark where they stand."""
    folder = item.path.relative_to(HERE).parts[0]
    if folder == "unit":
        return False
    # Its container takes longer to start than a test to run.
    contained = "contained" in getattr(item, "fixturenames", ()) or "contained" in item.name
    return folder != "integration" or item.path.name not in QUICK or contained


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        # pytest folds what was skipped at one place for one reason.
        _, _, reason = report.longrepr
        report.longrepr = ("tests", 0, reason)
    return report
