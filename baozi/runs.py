"""Finds all runs in the ledger and in the producers' journals, and computes the counts and state of each."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SkipValidation
from sqlalchemy import Connection, func, literal, select, union

from baozi.audit import Audit, audit
from baozi.errors import NothingToAudit
from baozi.language import Sentence
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten, order_sessions, orders, refused
from baozi.progress import JournalReader


class State(StrEnum):
    """The state of a run, by the ledger and the journals of this machine."""

    SOUND = "sound"
    """All orders are closed and nothing is lost: `baozi audit` exits with 0."""
    OPEN = "open"
    """An order is not closed, or its closing message has not arrived."""
    LOST = "lost"
    """Accepted baozi are not eaten: they are in the queue or among the dead letters, or they are lost."""
    UNPROVEN = "unproven"
    """There is another problem. `baozi audit` says which."""


class RunSummary(BaseModel):
    """The counts, sizes and state of one run."""

    model_config = ConfigDict(frozen=True)

    run: str
    state: State
    producers: int
    accepted: int | None
    """None if an order is open."""
    eaten: int
    lost: int
    duplicated: int
    rows: int
    """How many rows of the ledger name the run."""
    journal_bytes: int
    """The size of the producers' journals on this machine."""
    last_at: float | None
    """When a baozi was last eaten, or an order last closed, in epoch seconds; None if never."""
    problems: SkipValidation[list[str]]  # a sentence stays one
    """The problems that the audit found, as sentences."""


def names(ledger: Ledger, journals: Path) -> list[str]:
    """Return the names of all runs, in ascending order.

    Args:
        ledger: the ledger. If it does not exist yet, only the journals count.
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
    """Yield the summary of each run, by name. The parameters and errors are those of :func:`names`."""
    for name in names(ledger, journals):
        yield run(ledger, journals, name)


def run(ledger: Ledger, journals: Path, name: str) -> RunSummary:
    """Return the summary of the run ``name``. The other parameters and errors are those of :func:`names`."""
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
        problems=sums.problems if sums else [Sentence("Nothing was eaten and no order was closed.")],
    )


def state(sums: Audit | None) -> State:
    """Return the state of a run, from its audit. The audit is None if there is nothing to audit."""
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
