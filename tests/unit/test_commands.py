"""The command `baozi` as a whole: its version, its help and completion."""

import os
import re
import sys
from pathlib import Path

import pytest

import baozi
from baozi.errors import ExitCode
from tests.running import run

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "import sys; sys.argv[0] = 'baozi'; from baozi.__main__ import main; main()"]


def test_the_version_is_the_one_that_the_project_declares() -> None:
    (declared,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert baozi.__version__ == declared
    done = run([*PROGRAM, "--version"], timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.OK, f"baozi {declared}\n", "")


@pytest.mark.parametrize(("group", "columns"), [([], "60"), (["ledger"], "80"), (["dead"], "200")])
def test_the_help_of_a_group_lists_each_command_with_its_whole_description(
    group: list[str], columns: str
) -> None:
    environment = {**os.environ, "COLUMNS": columns}
    done = run([*PROGRAM, *group, "--help"], timeout=60, environment=environment)
    assert done.returncode == ExitCode.OK
    listed = done.stdout.partition("Commands:")[2]
    assert len(re.findall(r"^  [a-z]+ {2,}\S", listed, re.MULTILINE)) >= 3
    assert "..." not in listed
    assert max(map(len, done.stdout.splitlines())) <= int(columns)


def test_a_wide_terminal_has_wide_help() -> None:
    done = run([*PROGRAM, "audit", "--help"], timeout=60, environment={**os.environ, "COLUMNS": "200"})
    assert 80 < max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("baozi le", ["ledger"]),
        ("baozi ledger ", ["adopt", "upgrade", "version"]),
        ("baozi audit --w", ["--wait"]),
    ],
)
def test_a_shell_completes_commands_and_options(words: str, offered: list[str]) -> None:
    asked = {
        "_BAOZI_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = run(PROGRAM, timeout=60, environment={**os.environ, **asked})
    assert sorted(done.stdout.split()) == offered


def test_the_script_for_a_shell_is_printed() -> None:
    # Typer looks for a shell among the processes that started it.
    done = run(["bash", "-c", '"$@"; exit', "bash", *PROGRAM, "--show-completion"], timeout=60)
    assert done.returncode == ExitCode.OK
    assert "_BAOZI_COMPLETE=complete_bash" in done.stdout


def test_commands_that_serve_no_page_do_not_load_the_server() -> None:
    program = (
        "import sys\nfrom baozi.commands import app_with\napp_with(['watch', 'status', 'dead'])\n"
        "print([name for name in ('starlette', 'uvicorn', 'baozi.watch.site') if name in sys.modules])"
    )
    done = run([sys.executable, "-c", program], timeout=60)
    assert (done.returncode, done.stdout) == (ExitCode.OK, "[]\n")


def test_without_the_packages_of_its_extra_watch_says_what_to_install() -> None:
    program = "import sys; sys.modules['starlette'] = None; sys.argv[0] = 'baozi'; sys.argv[1:] = ['watch']\n"
    program += "from baozi.__main__ import main; main()"
    done = run([sys.executable, "-c", program], timeout=60)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert 'pip install "baozi[watch]"' in done.stderr
