"""All commands of ``baozi``: those of the library and, in the repository, those of the tools beside it.

The wheel contains the library only, because the names of the other packages (``tasks``, ``producers``, …) are
names that a user's own modules have. So these packages count as there only if they lie beside this one.
"""

import sys
from collections.abc import Iterable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

import baozi
from baozi import language
from baozi.errors import UsageError

#: The commands of the tools, in the order of the help. At each place is a function, or an app with commands.
TOOLS = {
    "demo": "side_by_side.demo_command:demo",
    "produce": "producers.command:produce",
    "compare": "side_by_side.compare_command:compare",
    "chaos": "side_by_side.chaos_command:chaos",
    "gather": "side_by_side.gather_command:gather",
    "report": "side_by_side.report_command:report",
    "local": "local_mp.command:app",
}
#: The same for the commands of the library.
LIBRARY = {
    "audit": "baozi.audit_command:audit",
    "runs": "baozi.runs_command:runs",
    "status": "baozi.status_command:status",
    "watch": "baozi.watch.command:watch",
    "prune": "baozi.prune:prune",
    "doctor": "baozi.doctor.command:doctor",
    "prove": "baozi.prove.command:prove",
    "dead": "baozi.dead_letters.command:app",
    "broker": "baozi.broker.command:app",
    "ledger": "baozi.ledger_command:app",
}
_ALL = TOOLS | LIBRARY
_VERSION = "--version"


def app() -> typer.Typer:
    """Return the app with the commands that this process's arguments need."""
    return app_with(_needed(sys.argv[1:]))


def app_with(names: Iterable[str] = _ALL) -> typer.Typer:
    """Return the app with the commands of these names. It imports no others: all take half a second."""
    made = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
    made.callback()(_root)
    beside = (Path(__file__).parents[1] / "side_by_side").is_dir()
    for name in names:
        if name in TOOLS and not beside:
            _add_without_the_tool(made, name)
            continue
        module, _, attribute = _ALL[name].partition(":")
        # By its name, also because the library imports nothing that is not in the wheel.
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            made.add_typer(command, name=name)
        else:
            made.command(name)(command)
    return made


def _needed(arguments: list[str]) -> Iterable[str]:
    """Return the command that the arguments name. Help, completion and an unknown name need all commands."""
    # Of the options of `baozi` itself, only that of the language takes a value.
    words = (word for before, word in pairwise(["", *arguments]) if before != language.OPTION)
    first = next((word for word in words if not word.startswith("-")), None)
    if first in _ALL:
        return [first]
    return [] if arguments == [_VERSION] else _ALL


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"baozi {baozi.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option(_VERSION, callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Producers put baozi on a RabbitMQ queue, Celery workers eat them, and an audit proves it."""


def _add_without_the_tool(made: typer.Typer, name: str) -> None:
    # All arguments are accepted, also --help, so that the one sentence is the answer to each of them.
    anything = {"allow_extra_args": True, "ignore_unknown_options": True}

    @made.command(name, hidden=True, add_help_option=False, context_settings=anything)
    def only_in_the_repository() -> None:
        raise UsageError(
            "`baozi {name}` is not in the installed package: it runs in a clone of the repository.", name=name
        )
