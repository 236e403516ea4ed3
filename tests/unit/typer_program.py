"""A program of the tests that is made as ours are, with Typer and `baozi.command_line`."""

import os
import subprocess
import sys

HEAD = """
import time
from typing import Annotated
import typer
from baozi import command_line, errors, stop
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
