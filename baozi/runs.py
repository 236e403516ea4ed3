"""The runs in the ledger and the producers' journals: their sums, sizes and states."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, func, literal, select, union

from baozi.audit import Audit, audit
from baozi.errors import NothingToAudit
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten, order_sessions, orders, refused
from baozi.progress import JournalReader


class State(StrEnum):
    """How a run stands, by the ledger and by the journals of this machine."""

    SOUND = "sound"
    """Each order is closed and nothing is lost: `baozi audit` exits with 0."""
    OPEN = "open"
    """An order is not closed, or its closing message has not arrived."""
    LOST = "lost"
    """Baozi were accepted and are not eaten: they are still in the queue, dead, or lost."""
    UNPROVEN = "unproven"
    """Something else is wrong; `baozi audit` says what."""


class RunSummary(BaseModel):
    """One run."""

    model_config = ConfigDict(frozen=True)

    run: str
    state: State
    producers: int
    accepted: int | None
    """None while an order is open."""
    eaten: int
    lost: int
    duplicated: int
    rows: int
    """Rows of the ledger that name the run."""
    journal_bytes: int
    """Bytes of the producers' journals of this machine."""
    last_at: float | None
    """When something was eaten or an order was closed last, in epoch seconds; None if never."""
    problems: list[str]


def names(ledger: Ledger, journals: Path) -> list[str]:
    """Return the names of all runs, in ascending order.

    Args:
        ledger: where to read. One that is not there yet has none.
        journals: the folder of the producers' journals.

    Raises:
        LedgerError: the ledger cannot be read.
        OSError: the folder cannot be read.
    """
    found = {folder.name for folder in journals.glob("*/") if any(folder.glob("*.journal"))}
    try:
        with ledger.reading() as connection:
            tables = (eaten, orders, order_sessions, refused)
            found.update(connection.scalars(union(*(select(table.c.run) for table in tables))))
    except NothingToAudit:
        pass
    return sorted(found)


def runs(ledger: Ledger, journals: Path) -> Iterator[RunSummary]:
    """Yield each run, in the order of their names; the arguments and errors are those of :func:`names`."""
    for name in names(ledger, journals):
        yield run(ledger, journals, name)


def run(ledger: Ledger, journals: Path, name: str) -> RunSummary:
    """Return the run ``name``, as it stands; the other arguments and errors are those of :func:`names`."""
    folder = journals / name
    try:
        sums = audit(ledger, name, journals=JournalReader(name, [folder]).progress())
    except NothingToAudit:  # only refused baozi, or a journal without a line
        sums = None
    rows, last_at = 0, None
    try:
        with ledger.reading() as connection:
            rows, last_at = _size(connection, name)
    except NothingToAudit:
        pass
    return RunSummary(
        run=name,
        state=state(sums),
        producers=len(sums.producers) if sums else 0,
        accepted=sums.total.accepted if sums else None,
        eaten=sums.total.eaten if sums else 0,
        lost=sums.total.lost if sums else 0,
        duplicated=sums.total.duplicated if sums else 0,
        rows=rows,
        journal_bytes=sum(path.stat().st_size for path in folder.glob("*.journal")),
        last_at=last_at,
        problems=sums.problems if sums else ["Nothing was eaten and no order was closed."],
    )


def state(sums: Audit | None) -> State:
    """Return how a run with these sums stands; None for one of which nothing but its name is known."""
    if sums is None:
        return State.UNPROVEN
    if sums.open_orders or sums.untold:
        return State.OPEN
    if sums.total.lost:
        return State.LOST
    return State.SOUND if sums.proven else State.UNPROVEN


def _size(connection: Connection, name: str) -> tuple[int, float | None]:
    times = [
        (eaten, eaten.c.eaten_at),
        (orders, orders.c.closed_at),
        (order_sessions, order_sessions.c.told_at),
    ]
    times += [(refused, refused.c.refused_at)]
    rows, last = 0, None
    for table, at in times:
        count, latest = connection.execute(
            select(func.count(literal(1)), func.max(at)).where(table.c.run == name)
        ).one()
        rows += count
        last = latest if last is None or (latest or 0) > last else last
    return rows, last
