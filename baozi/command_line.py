"""How every command of the project ends: well, or with one sentence on stderr and a named exit code."""

import os
import signal
import sys

import typer

from baozi.errors import BaoziError, ExitCode
from baozi.stop import Stop

#: Exit status when whoever read our output has gone: what a shell says of any program that SIGPIPE ends.
#: Neither success nor a loss, for nobody read what the command had to say.
_NO_READER = 128 + signal.SIGPIPE


def run(app: typer.Typer) -> None:
    """Run ``app`` with the arguments of this process, and exit.

    SIGTERM interrupts as Ctrl-C does, so that what a command has started is stopped either way.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = _exit_code(app)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        code = code or _unsaid(error)
        # Python would flush once more while it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _exit_code(app: typer.Typer) -> int:
    try:
        return int(app(standalone_mode=False) or ExitCode.OK)
    except BaoziError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except typer.TyperException as error:
        message = error.format_message()
        # Of several lines: the help, for a group of commands without one.
        print(message if "\n" in message else f"{message.rstrip('.')}. See --help.", file=sys.stderr)
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except OSError as error:
        return _unsaid(error)
    except SystemExit as end:
        # Typer makes of a broken pipe an exit with 1, which would be a loss.
        if isinstance(end.__context__, BrokenPipeError):
            return _unsaid(end.__context__)
        raise


def _unsaid(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        return _NO_READER
    file = f": {error.filename}" if error.filename else ""
    print(f"The system refuses: {error.strerror or error}{file}.", file=sys.stderr)
    return ExitCode.USAGE


def stop_on_signals() -> Stop:
    """Return an event that the first Ctrl-C or SIGTERM sets; a second one interrupts at once."""
    stop = Stop()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop
