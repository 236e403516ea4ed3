"""CI runs a failed test once more, alone, and says so; what fails twice fails CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci" / "run"

#: `make test` of a project in which `make lint` and `make demo` have nothing to do.
MAKEFILE = """
lint demo:
\t@true
test:
\t@mkdir -p .venv && ln -sfn {bin} .venv/bin
\t@{command}
"""
PYTEST = ".venv/bin/pytest -q"

GOOD = "def test_good() -> None:\n    pass\n"
#: Fails at the first run: the file that it leaves is not there yet.
FLAKY = """
from pathlib import Path

import pytest

@pytest.mark.parametrize("name", ["a b", "包子"])
def test_flaky(name: str) -> None:
    ran = Path("ran-" + name)
    if not ran.exists():
        ran.touch()
        raise AssertionError
"""
BAD = "def test_bad() -> None:\n    assert False\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty repository with our CI script."""
    project = tmp_path / "project"
    (project / ".ci").mkdir(parents=True)
    shutil.copy(RUN, project / ".ci")
    (project / ".gitignore").write_text(".venv\n.pytest_cache\n")
    return project


def ci(project: Path, tests: str, command: str = PYTEST) -> subprocess.CompletedProcess[str]:
    """Run CI on the project with these tests, from a commit of them."""
    (project / "Makefile").write_text(MAKEFILE.format(bin=Path(sys.executable).parent, command=command))
    (project / "test_it.py").write_text(tests)
    identity = ["-c", "user.name=a test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "Tests"]):
        subprocess.run(["git", *arguments], cwd=project, check=True)
    outer = {name: it for name, it in os.environ.items() if not name.startswith(("PYTEST_", "MAKE"))}
    # Some plug-ins take seconds to load, and the tests here need none of them.
    outer["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(
        ["bash", ".ci/run"], cwd=project, env=outer, capture_output=True, text=True, timeout=120, check=False
    )


def test_without_a_failed_test_nothing_runs_again(project: Path) -> None:
    done = ci(project, GOOD)
    assert done.returncode == 0, done.stderr
    assert "1 passed" in done.stdout
    assert "FLAKY" not in done.stdout


def test_tests_that_pass_when_they_run_again_are_listed_as_flaky(project: Path) -> None:
    done = ci(project, GOOD + FLAKY)
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, listed = done.stdout.partition("\nFLAKY\n")
    assert listed.count("test_it.py::test_flaky") == 2
    assert "test_good" not in listed


def test_a_test_that_fails_again_fails_ci(project: Path) -> None:
    done = ci(project, GOOD + BAD)
    assert done.returncode != 0
    assert "FLAKY" not in done.stdout


def test_a_test_run_that_breaks_without_a_failed_test_fails_ci(project: Path) -> None:
    done = ci(project, GOOD, command=f"{PYTEST} && false")
    assert done.returncode != 0
    assert "FLAKY" not in done.stdout


def test_each_test_that_failed_runs_again_even_if_one_before_it_fails_again(project: Path) -> None:
    done = ci(project, BAD + FLAKY)
    assert done.returncode != 0
    _, _, twice = done.stdout.partition("\nFAILED TWICE\n")
    twice, _, flaky = twice.partition("FLAKY\n")
    assert twice.split() == ["test_it.py::test_bad"]
    assert flaky.count("test_it.py::test_flaky") == 2
