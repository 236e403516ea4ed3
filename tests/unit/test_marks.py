"""What `make test-fast` leaves out, and what it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import QUICK

ROOT = Path(__file__).parents[2]


#: Collects all tests, and prints of each whether it is slow.
COLLECT = """
import pytest

class Seen:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("slow" if item.get_closest_marker("slow") else "fast", item.nodeid)

raise SystemExit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider"], plugins=[Seen()]))
"""


@pytest.fixture(scope="module")
def collected() -> dict[str, list[str]]:
    """The names of all tests: the slow ones, and the fast ones."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[str]] = {"slow": [], "fast": []}
    for line in done.stdout.splitlines():
        kind, _, name = line.partition(" tests/")
        if kind in found:
            found[kind].append(name)
    return found


@pytest.mark.slow
def test_the_fast_tests_are_those_of_unit_and_of_the_quick_modules_without_containers(
    collected: dict[str, list[str]],
) -> None:
    fast = collected["fast"]
    assert {name.partition("/")[0] for name in fast} == {"unit", "integration"}
    modules = {name.partition("::")[0] for name in fast if name.startswith("integration/")}
    assert modules == {f"integration/{name}" for name in QUICK}
    assert not [name for name in fast if "contained" in name]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["unit", "integration", "conformance", "containers", "fuzz"])
def test_each_folder_has_slow_tests(collected: dict[str, list[str]], folder: str) -> None:
    assert any(name.startswith(f"{folder}/") for name in collected["slow"])


def test_make_test_runs_everything_and_make_test_fast_what_is_not_slow() -> None:
    def recipe(target: str) -> str:
        asked = [
            "make",
            "--no-print-directory",
            "--dry-run",
            "--always-make",
            "--assume-old=.venv/.set-up",
            target,
        ]
        return subprocess.run(
            asked, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
        ).stdout.splitlines()[-1]

    assert " -m " not in recipe("test")
    assert recipe("test-fast") == f'{recipe("test")} -m "not slow"'
