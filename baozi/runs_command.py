"""The command ``baozi runs``, which lists the runs."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich import box
from rich.console import Console

from baozi.ledger import Ledger
from baozi.runs import RunSummary
from baozi.runs import runs as all_runs
from baozi.settings import settings
from baozi.shown import shown, shown_json
from baozi.tables import Table

#: The columns of the table: the title of each, and whether it has numbers.
_COLUMNS = {
    "run": False,
    "state": False,
    "accepted": True,
    "eaten": True,
    "lost": True,
    "twice": True,
    "rows": True,
    "journal": True,
    "last (UTC)": False,
}
#: The width, in characters, of a terminal on which the table fits if names have a usual length.
_NARROWEST_TABLE = 80


def runs(
    as_json: Annotated[bool, typer.Option("--json", help="Print each run as JSON, one in a line.")] = False,
) -> None:
    """List the runs that the ledger or a journal knows, with their sums, sizes and states.

    The state is sound, open, lost or unproven; `baozi audit RUN` says why. Dead letters are not looked at:
    those of a run are among its lost.
    """
    home = settings()
    ledger = Ledger(home.ledger)
    try:
        found = all_runs(ledger, home.runs)
        if as_json:
            for one in found:
                print(shown_json(one.model_dump_json()))
            return
        listed = list(found)
    finally:
        ledger.close()
    if not listed:
        print(shown(f"No run is known. BAOZI_HOME is {home.home.absolute()} ({home.home_reason})."))
        return
    console = Console()
    if console.width < _NARROWEST_TABLE:
        for one in listed:
            print(shown(_line(one)))
        return
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name, is_number in _COLUMNS.items():
        # A name may be wrapped, a number never.
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for one in listed:
        table.add_row(*_cells(one))
    console.print(table)


def _line(one: RunSummary) -> str:
    name, state, *cells = _cells(one)
    facts = [f"{column} {cell}" for column, cell in zip(list(_COLUMNS)[2:], cells, strict=True)]
    return f"{name}: {', '.join([state, *facts])}"


def _cells(one: RunSummary) -> list[str]:
    last = "–" if one.last_at is None else f"{datetime.fromtimestamp(one.last_at, UTC):%Y-%m-%d %H:%M}"
    accepted = "?" if one.accepted is None else str(one.accepted)
    counts = [accepted, *(str(count) for count in (one.eaten, one.lost, one.duplicated, one.rows))]
    return [one.run, one.state, *counts, size(one.journal_bytes), last]


def size(count: int) -> str:
    """Return a number of bytes as text, such as ``340 B`` or ``1.2 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
