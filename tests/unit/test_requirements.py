"""A machine without an engine: its tests say in one line what is not tested; in CI that is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import need

ROOT = Path(__file__).parents[2]
#: Each asks for an engine in a way of its own: Compose, and pytest-celery.
ASK = ["tests/containers/test_compose.py", "tests/containers/test_pytest_celery.py"]


@pytest.mark.slow
def test_without_an_engine_one_line_says_what_is_not_tested() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "DOCKER_CONTEXT"}}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *ASK],
        cwd=ROOT,
        env={**environment, "DOCKER_HOST": "unix:///there/is/no/engine"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert line.endswith("no Docker engine answers, so nothing is tested in containers")


def test_in_ci_a_lack_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="in CI nothing may be skipped: no oven"):
        need(False, "no oven")
