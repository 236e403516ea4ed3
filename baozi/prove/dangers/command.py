"""``baozi prove --danger`` on the command line."""

import json
import sys
from pathlib import Path

import typer

from baozi.errors import ExitCode
from baozi.prove.dangers import report
from baozi.prove.dangers.catalogue import chosen
from baozi.prove.dangers.showing import show
from baozi.shown import shown, shown_lines, to_json


def run(names: str, times: int, kind: str | None, folder: Path, out: Path | None, as_json: bool) -> None:
    """Show dangers.

    Args:
        names: the ids of their rules, separated by commas; or ``all``.
        times: how often each is shown.
        kind: the kind of broker; see :class:`baozi.prove.dangers.showing.Brokers`.
        folder: gets the apps and the logs.
        out: gets ``results.json``.
        as_json: whether to print JSON.

    Raises:
        UsageError: a danger is unknown or only cited.
        typer.Exit: a danger was not seen, or its fix does not hold.
    """
    tries = show(chosen(names.split(",")), times, kind, folder, _say)
    found = report.as_json(tries)
    if out is not None:
        (out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print(to_json(found))
    else:
        for line in report.lines(tries):
            print(shown(line))
        if out is not None:
            print(f"The apps and the logs are in {shown(out)}.")
    if not all(it.complete for it in tries):
        raise typer.Exit(ExitCode.NOT_SHOWN)


def _say(line: str) -> None:
    print(shown_lines(line), file=sys.stderr, flush=True)
