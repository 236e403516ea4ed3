"""The command ``baozi``, also run by ``python -m baozi``."""

import os
import signal
from typing import NoReturn


def main() -> None:
    """Run the command line, and exit."""
    # Before anything else is imported, which takes up to a second: a signal would be a traceback until then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_at_once)
    from baozi import command_line  # noqa: PLC0415  # takes a second: the signals come first

    command_line.main("baozi.commands:app")


def _end_at_once(_number: int, _frame: object) -> NoReturn:
    os.write(2, b"\nStopped: nothing was started yet.\n")
    os._exit(130)  # ExitCode.INTERRUPTED, which is not imported yet


if __name__ == "__main__":
    main()
