import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.errors import ExitCode, QueueFull

HEAD = """
import time
from typing import Annotated
import typer
from baozi import command_line, errors
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
@app.callback()
def group() -> None:
    "A program of a test."
@app.command()
def work(count: Annotated[int, typer.Option(min=0)] = 0):
    "Do it."
"""
TAIL = "command_line.run(app)\n"
#: Celery's command line is made with click and runs itself: command_line.run has no part in it.
CLICK = """
import click
from baozi import errors
@click.group()
def group() -> None:
    "A program of a test."
@group.command()
def work() -> None:
    raise errors.{error}
group()
"""
#: What a shell says of a program that SIGPIPE ends.
NO_READER = 141
#: A pipe's buffer and Python's hold less than this by far.
MANY_LINES = "for number in range(100_000): print('line', number)"


def program(*body: str) -> list[str]:
    return [sys.executable, "-c", HEAD + "".join(f"    {line}\n" for line in body) + TAIL]


def environment() -> dict[str, str]:
    # Buffered, as in a user's shell: what is printed may fail as late as when Python ends.
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def ran(body: str, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program(body), *(arguments or ["work"])],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_command_that_ends_well_exits_with_nought() -> None:
    done = ran("print('eaten')")
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.OK, "eaten\n", "")


def test_a_command_ends_with_the_code_it_asks_for() -> None:
    assert ran("raise typer.Exit(errors.ExitCode.LOSS)").returncode == ExitCode.LOSS


ERRORS = [
    ("QueueFull", ExitCode.REFUSED, str(QueueFull())),
    ("BrokerAway('No broker at 包子.')", ExitCode.NO_BROKER, "No broker at 包子."),
    ("LedgerAway('The ledger is full.')", ExitCode.NO_LEDGER, "The ledger is full."),
    ("UsageError('Not so.')", ExitCode.USAGE, "Not so."),
]


@pytest.mark.parametrize(("error", "code", "sentence"), ERRORS)
def test_an_error_is_one_sentence_on_stderr_and_its_exit_code(
    error: str, code: ExitCode, sentence: str
) -> None:
    done = ran(f"raise errors.{error}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", sentence + "\n")


@pytest.mark.parametrize(("error", "code", "sentence"), ERRORS)
def test_the_same_error_ends_a_plain_click_program_with_the_same_sentence_and_code(
    error: str, code: ExitCode, sentence: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLICK.format(error=error), "work"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", sentence + "\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["work", "--count", "-1"], "'--count'"),
        (["work", "--count", "many"], "'--count'"),
        (["work", "--count"], "--count"),
        (["work", "--colour", "red"], "--colour"),
        (["work", "more"], "more"),
        (["play"], "'play'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    done = ran("print(count)", *arguments)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(". See --help.\n")


def test_no_command_at_all_shows_the_help() -> None:
    done = subprocess.run(
        program("pass"), env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == ExitCode.USAGE
    assert "A program of a test." in done.stderr
    assert done.stderr.rstrip().endswith("Do it.")


@pytest.mark.parametrize("interruption", ["KeyboardInterrupt", "typer.Abort"])
def test_an_interruption_exits_with_130_and_says_nothing(interruption: str) -> None:
    done = ran(f"raise {interruption}")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (ExitCode.INTERRUPTED, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_a_command_through_its_clean_up(number: signal.Signals) -> None:
    body = ["try:", "    print('at work', flush=True); time.sleep(60)", "finally:", "    print('cleaned up')"]
    with subprocess.Popen(
        [*program(*body), "work"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(number)
        said, complaint = process.communicate(timeout=30)
    assert (process.returncode, said, complaint) == (ExitCode.INTERRUPTED, "cleaned up\n", "")


def test_the_first_signal_asks_and_the_second_interrupts() -> None:
    body = ["stop = command_line.stop_on_signals()", "print('ready', flush=True)"]
    body += ["stop.wait(60)", "print('asked', flush=True)", "time.sleep(60)"]
    with subprocess.Popen(
        [*program(*body), "work"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for number, answer in ((None, "ready\n"), (signal.SIGTERM, "asked\n"), (signal.SIGINT, "")):
            if number is not None:
                process.send_signal(number)
            assert process.stdout.readline() == answer
        _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (ExitCode.INTERRUPTED, "")


def test_a_signal_stops_work_at_whatever_moment_it_comes() -> None:
    # Ten times: an event of threading's, set in a handler, hung every second time.
    body = ["stop = command_line.stop_on_signals()", "print('ready', flush=True)"]
    body += ["while not stop.wait(0): pass"]
    for _ in range(10):
        with subprocess.Popen(
            [*program(*body), "work"], env=environment(), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            try:
                assert process.wait(timeout=10) == ExitCode.OK
            finally:
                process.kill()


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def to_nobody(body: str) -> subprocess.CompletedProcess[str]:
    writer = closed_pipe()
    try:
        return ran(body, stdout=writer)
    finally:
        os.close(writer)


@pytest.mark.parametrize("body", ["print('one line')", MANY_LINES])
def test_output_that_nobody_reads_is_neither_success_nor_a_loss(body: str) -> None:
    # An audit whose verdict nobody could read must not exit as if it had proven something, nor as a loss.
    done = to_nobody(body)
    assert (done.returncode, done.stderr) == (NO_READER, "")


def test_what_a_command_found_out_stays_its_exit_code_though_nobody_reads() -> None:
    done = to_nobody("print('a loss'); raise typer.Exit(errors.ExitCode.LOSS)")
    assert (done.returncode, done.stderr) == (ExitCode.LOSS, "")


def test_a_reader_that_stops_early_gets_its_line_and_no_traceback() -> None:
    with subprocess.Popen(
        [*program(MANY_LINES), "work"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == NO_READER


@pytest.mark.parametrize("body", ["print('one line')", MANY_LINES])
def test_a_full_disk_under_the_output_is_one_sentence(body: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = ran(body, stdout=full.fileno())
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == "The system refuses: No space left on device.\n"


def test_a_file_that_may_not_be_there_is_named_in_one_sentence() -> None:
    done = ran("open('/no/such/file')")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == "The system refuses: No such file or directory: /no/such/file.\n"


def test_a_program_without_a_stdout_still_ends_well() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *program("print('unheard')"), "work"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")


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
def test_a_signal_while_a_program_is_loaded_ends_it_at_once_and_says_nothing(
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
    assert (process.returncode, said, complaint) == (ExitCode.INTERRUPTED, "", "")


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


@pytest.mark.parametrize("module", ["cli", "producers", "local_mp", "benchmarks"])
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
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, "", "")


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
