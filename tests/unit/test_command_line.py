import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.errors import ExitCode, QueueFull
from tests.unit.typer_program import environment, program, ran

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


def test_a_command_that_succeeds_exits_with_0() -> None:
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
def test_an_interrupted_command_exits_with_130_and_prints_nothing(interruption: str) -> None:
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
    body = ["event = stop.stop_on_signals()", "print('ready', flush=True)"]
    body += ["event.wait(60)", "print('asked', flush=True)", "time.sleep(60)"]
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
    body = ["event = stop.stop_on_signals()", "print('ready', flush=True)"]
    body += ["while not event.wait(0): pass"]
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
def test_a_closed_output_is_neither_success_nor_a_loss(body: str) -> None:
    # An audit whose verdict nobody could read must not exit as if it had proven something, nor as a loss.
    done = to_nobody(body)
    assert (done.returncode, done.stderr) == (NO_READER, "")


def test_the_exit_code_of_a_command_is_the_same_if_its_output_is_closed() -> None:
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


def test_a_program_without_a_stdout_still_exits_with_0() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *program("print('unheard')"), "work"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
