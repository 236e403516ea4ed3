"""How every command of the project ends: well, or with one sentence on stderr and a named exit code."""

import os
import signal
import sys
from threading import Event

import typer

from baozi.errors import BaoziError, ExitCode


def run(app: typer.Typer) -> None:
    """Run ``app`` with the arguments of this process, and exit.

    SIGTERM interrupts as Ctrl-C does, so that what a command has started is stopped either way.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_exit_code(app))


def _exit_code(app: typer.Typer) -> int:
    try:
        return int(app(standalone_mode=False) or ExitCode.OK)
    except BaoziError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except typer.TyperException as error:
        print(f"{error.format_message().rstrip('.')}. See --help.", file=sys.stderr)
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more while it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK


def stop_on_signals() -> Event:
    """Return an event that the first Ctrl-C or SIGTERM sets; a second one interrupts at once."""
    stop = Event()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop
