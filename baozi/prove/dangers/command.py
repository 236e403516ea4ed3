"""``baozi prove --danger`` on the command line."""

import sys
from contextlib import closing
from pathlib import Path

import typer

from baozi.errors import ExitCode
from baozi.prove.dangers import report
from baozi.prove.dangers.catalogue import chosen
from baozi.prove.dangers.showing import Shown, line, show
from baozi.shown import shown, shown_lines, to_json


def run(names: str, times: int, kind: str | None, folder: Path, out: Path | None, as_json: bool) -> None:
    """Show dangers.

    Args:
        names: the ids of their rules, separated by commas; or ``all``.
        times: how often each is shown.
        kind: the kind of broker; see :class:`baozi.prove.dangers.showing.Brokers`.
        folder: gets the apps and the logs.
        out: gets ``results.json``, which is written anew after each try.
        as_json: whether to print JSON.

    Raises:
        UsageError: a danger is unknown or only cited.
        typer.Exit: a danger was not seen, or its fix does not hold.
    """
    tries: list[Shown] = []
    with closing(show(chosen(names.split(",")), times, kind, folder)) as each:
        for one in each:
            print(shown_lines(line(one)), file=sys.stderr, flush=True)
            tries.append(one)
            if out is not None:
                (out / "results.json").write_text(report.dumped(tries), encoding="utf-8")
    if as_json:
        print(to_json(report.as_json(tries)))
    else:
        for text in report.lines(tries):
            print(shown(text))
        if out is not None:
            print(f"The apps and the logs are in {shown(out)}.")
    if not all(it.complete for it in tries):
        raise typer.Exit(ExitCode.NOT_SHOWN)
