"""What `make test-fast` leaves out, and what it does not."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import QUICK

ROOT = Path(__file__).parents[2]
FOLDERS = ["unit", "integration", "conformance", "containers", "fuzz"]


@cache
def collected(*options: str) -> frozenset[str]:
    """The tests that pytest would run with ``options``."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return frozenset(line for line in done.stdout.splitlines() if "::" in line)


@pytest.mark.slow
def test_fast_and_slow_are_all_tests_and_no_test_is_both() -> None:
    fast, slow = collected("-m", "not slow"), collected("-m", "slow")
    assert fast
    assert slow
    assert not fast & slow
    assert fast | slow == collected()


@pytest.mark.slow
def test_the_fast_tests_are_those_of_unit_and_of_the_quick_modules_without_containers() -> None:
    fast = collected("-m", "not slow")
    assert {it.split("/")[1] for it in fast} == {"unit", "integration"}
    modules = {it.partition("::")[0].rpartition("/")[2] for it in fast if "/integration/" in it}
    assert modules == QUICK
    assert not [it for it in fast if "contained" in it]


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_has_slow_tests(folder: str) -> None:
    assert any(it.startswith(f"tests/{folder}/") for it in collected("-m", "slow"))


def test_make_test_runs_everything_and_make_test_fast_what_is_not_slow() -> None:
    def recipe(target: str) -> str:
        asked = ["make", "--dry-run", "--always-make", "--assume-old=.venv/.set-up", target]
        return subprocess.run(
            asked, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
        ).stdout.splitlines()[-1]

    assert " -m " not in recipe("test")
    assert recipe("test-fast") == f'{recipe("test")} -m "not slow"'
