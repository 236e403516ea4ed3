"""What nobody expects ends a command with a sentence and an exit code of its own, not with that of a loss."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.errors import ExitCode, QueueFull
from tests.unit.typer_program import environment, program, ran

#: Errors that no part of the project expects, one of each kind that Python's own exit status would be 1 for.
BUGS = {
    "ZeroDivisionError": "1 / 0",
    "AssertionError": "assert False, 'amqp://user:secret@host'",
    "UnicodeEncodeError": "'\\ud800'.encode()",
    "RecursionError": "f = lambda f: f(f); f(f)",
    "MemoryError": "raise MemoryError('secret')",
    "NotImplementedError": "raise NotImplementedError('secret')",
    "ExceptionGroup": "raise ExceptionGroup('secret', [ValueError('secret')])",
    "SystemExit": "raise SystemExit('secret')",
    "StopIteration": "next(iter([]))",
    "Error": "raise type('Error', (BaseException,), {})('secret')",
}


@pytest.mark.parametrize(("error", "body"), [*BUGS.items(), ("SystemExit", "import sys; sys.exit(1)")])
def test_a_bug_is_one_sentence_without_its_text_and_not_the_exit_code_of_a_loss(
    error: str, body: str
) -> None:
    done = ran(body)
    assert (done.returncode, done.stdout) == (ExitCode.BUG, "")
    assert done.stderr.startswith(f"Unexpected {error}")
    assert done.stderr.endswith(": this is a bug, run again with --debug for the traceback.\n")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["work", "--debug"], ["--debug", "work"], ["work", "--count", "1", "--debug"]]
)
def test_with_debug_a_bug_has_its_traceback(arguments: list[str]) -> None:
    done = ran("1 / 0", *arguments)
    assert done.returncode == ExitCode.BUG
    assert done.stderr.startswith("Traceback")
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert done.stderr.endswith(": this is a bug.\n")


def test_an_error_s_traceback_is_had_by_an_environment_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAOZI_DEBUG", "1")
    done = ran("raise errors.QueueFull")
    assert done.returncode == ExitCode.REFUSED
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith(f"\n{QueueFull()}\n")


def test_help_tells_of_debug() -> None:
    assert "--debug" in ran("pass", "--help").stdout
    assert "--debug" in ran("pass", "work", "--help").stdout


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("absent", None),
        ("broken", "1 / 0"),
        ("half", "app = None"),
        ("raising", "raise SystemExit('secret')"),
        ("dependent", "import no_such_dependency"),
    ],
)
def test_a_program_that_cannot_be_loaded_is_a_bug_and_not_a_loss(
    module: str, problem: str | None, tmp_path: Path
) -> None:
    if problem is not None:
        (tmp_path / f"{module}.py").write_text(problem)
    done = started(f"{module}:app", tmp_path)
    _, complaint = done.communicate(timeout=60)
    assert done.returncode == ExitCode.BUG
    assert "this is a bug" in complaint
    assert complaint.count("\n") == 1
    assert "secret" not in complaint


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_program_is_loaded_ends_it_at_once_with_one_sentence(
    number: signal.Signals, tmp_path: Path
) -> None:
    # Libraries catch whatever is raised while they are imported.
    slow = "import time\ntry: print('loading', flush=True); time.sleep(60)\nexcept BaseException: pass\n1 / 0"
    (tmp_path / "slow.py").write_text(slow)
    process = started("slow:app", tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(number)
    said, complaint = process.communicate(timeout=30)
    assert (process.returncode, said) == (ExitCode.INTERRUPTED, "")
    assert complaint == "\nStopped: nothing was started yet.\n"


def started(where: str, folder: Path) -> subprocess.Popen[str]:
    """Start a program that loads its Typer app from ``where`` in ``folder``."""
    program = f"import sys; sys.path.append({str(folder)!r})\n"
    program += f"from baozi import command_line; command_line.main({where!r})"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("module", ["baozi", "producers", "benchmarks"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_in_its_first_moments_exits_with_130_and_no_traceback(
    module: str, number: signal.Signals
) -> None:
    # Python's own start, in which no handler of ours can be, takes less than a tenth of a second; the signal
    # comes when the first of the many modules that are slow to load is being read.
    watched = f"""
import builtins, os, runpy, signal
load = builtins.__import__
def watching(name, *more, **others):
    if name == "typer" or name.startswith("typer."):
        os.kill(os.getpid(), {int(number)})
    return load(name, *more, **others)
builtins.__import__ = watching
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", watched, "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (ExitCode.INTERRUPTED, "")
    assert done.stderr == "\nStopped: nothing was started yet.\n"


def test_a_name_that_the_terminal_cannot_show_is_written_out() -> None:
    done = subprocess.run(
        [*program("print('包子'); raise errors.UsageError('小明 \\x1b[2J \\u202e')"), "work"],
        env={**environment(), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "\\u5305\\u5b50\n")
    assert done.stderr.endswith(" \\x1b[2J \\u202e\n")
