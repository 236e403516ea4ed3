"""All commands of ``baozi``: those of the library and, in the repository, those of the tools beside it.

The wheel contains the library only, because the names of the other packages (``tasks``, ``producers``, …) are
names that a user's own modules have. So these packages count as there only if they lie beside this one.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

import baozi
from baozi.audit_command import audit
from baozi.broker.command import app as broker
from baozi.dead_letters.command import app as dead
from baozi.doctor.command import doctor
from baozi.errors import UsageError
from baozi.ledger_command import app as ledger
from baozi.prune_command import prune
from baozi.runs_command import runs
from baozi.status_command import status

#: The commands of the tools, in the order of the help. `side_by_side.commands` has them.
TOOLS = ("demo", "produce", "compare", "chaos", "gather", "report", "local")

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"baozi {baozi.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Producers put baozi on a RabbitMQ queue, Celery workers eat them, and an audit proves it."""


def _tools_are_beside() -> bool:
    return (Path(__file__).parents[1] / "side_by_side" / "commands.py").is_file()


def _add_without_the_tool(name: str) -> None:
    # All arguments are accepted, also --help, so that the one sentence is the answer to each of them.
    anything = {"allow_extra_args": True, "ignore_unknown_options": True}

    @app.command(name, hidden=True, add_help_option=False, context_settings=anything)
    def only_in_the_repository() -> None:
        raise UsageError(
            f"`baozi {name}` is not in the installed package: it runs in a clone of the repository."
        )


if _tools_are_beside():
    # By its name, because the library imports nothing that is not in the wheel.
    import_module("side_by_side.commands").add_to(app)
else:
    for tool in TOOLS:
        _add_without_the_tool(tool)
app.command()(audit)
app.command()(runs)
app.command()(status)
app.command()(prune)
app.command()(doctor)
app.add_typer(dead, name="dead")
app.add_typer(broker, name="broker")
app.add_typer(ledger, name="ledger")
