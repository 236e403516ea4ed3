"""The front door: ``baozi demo | produce | audit | broker``."""

import sys

import typer

from baozi.broker.command import app as broker
from baozi.errors import BaoziError, ExitCode

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(broker, name="broker")


def main() -> None:
    """Run the command line. An error is one sentence on stderr and a named exit code, never a traceback."""
    try:
        app()
    except BaoziError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
