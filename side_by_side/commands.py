"""The commands of ``baozi`` that need the course's app or the tools. :mod:`baozi.commands` has the others."""

import typer

from local_mp.command import app as local
from producers.command import produce
from side_by_side.chaos_command import chaos
from side_by_side.compare_command import compare
from side_by_side.demo_command import demo
from side_by_side.gather_command import gather
from side_by_side.report_command import report


def add_to(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(demo)
    app.command()(produce)
    app.command()(compare)
    app.command()(chaos)
    app.command()(gather)
    app.command()(report)
    app.add_typer(local, name="local")
