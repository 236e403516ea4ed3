"""Deletes the ledger's rows and the journals of runs that are proven sound.

A message whose row was deleted would be executed again. So a run is deleted only if none of its messages can
still be delivered: it has no dead letters, and the queue is empty. Only the management API shows messages
that a worker has not acknowledged. Without it, the run must be older than the time after which RabbitMQ
requeues them.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, delete, select

from baozi.dead_letters.queue import runs_of_letters
from baozi.errors import JournalAway, UsageError
from baozi.ledger import Ledger
from baozi.ledger_schema import done, eaten, order_sessions, orders, refused
from baozi.model import Baozi
from baozi.runs import RunSummary, State, names
from baozi.runs import run as summary_of
from baozi.status import queue_states
from baozi.topology import Topology
from baozi.worker.configuration import LONGEST_TASK

#: Seconds after which a message that a worker holds has returned to the queue: twice RabbitMQ's timeout.
_SETTLED_AFTER = 2 * LONGEST_TASK
#: Rows of one statement.
_ROWS = 500


class Plan(BaseModel):
    """Whether a run may be deleted."""

    model_config = ConfigDict(frozen=True)

    run: str
    rows: int
    journal_bytes: int
    kept: str | None = None
    """Why it stays, in a sentence; None if it may be deleted."""


def plans(
    ledger: Ledger,
    journals: Path,
    topology: Topology,
    wanted: Sequence[str],
    older_than: float,
    timeout: float,
) -> list[Plan]:
    """Return for each run whether it may be deleted. Nothing is changed.

    Args:
        ledger: the ledger.
        journals: the folder of the producers' journals.
        topology: the queues.
        wanted: the runs to look at; empty for all.
        older_than: seconds that must have passed since something of a run happened.
        timeout: seconds to wait for the broker.

    Raises:
        UsageError: one of ``wanted`` is not known.
        BrokerError: the broker cannot be asked what is still to be delivered.
        LedgerError: the ledger cannot be read.
    """
    known = names(ledger, journals)
    for name in wanted:
        if name not in known:
            raise UsageError(f"There is no run {name}; `baozi runs` lists them.")
    # In this order: a letter that is replayed in between is in the queue then.
    dead = runs_of_letters(timeout)
    work, *_ = queue_states(topology, timeout)
    return [_plan(summary_of(ledger, journals, name), dead, work, older_than) for name in wanted or known]


def _plan(one: RunSummary, dead: set[str], work: dict[str, int | None], older_than: float) -> Plan:
    age = time.time() - (one.last_at or 0)
    unacknowledged = work["unacknowledged"]
    why: str | None = None
    if one.state is not State.SOUND:
        why = f"It is {one.state}: `baozi audit` says why."
    elif one.run in dead:
        why = "Some of it are dead letters: replay or drop them first."
    elif work["ready"] or unacknowledged:
        why = "The queue is not empty: a message of this run could still be delivered again."
    elif unacknowledged is None and age < _SETTLED_AFTER:
        why = (
            f"It is younger than {_SETTLED_AFTER / 60:.0f} minutes, and what workers hold is not known: a"
            " message could still be delivered again."
        )
    elif age < older_than:
        why = "It is younger than --older-than says."
    return Plan(run=one.run, rows=one.rows, journal_bytes=one.journal_bytes, kept=why)


def prune(ledger: Ledger, journals: Path, name: str) -> int:
    """Delete the run ``name``; return how many rows of the ledger that were.

    First its journals: if this is interrupted, the ledger still proves the run, and it can be repeated.

    Raises:
        JournalAway: a producer has a journal open, or it cannot be deleted.
        LedgerError: the ledger cannot be used.
    """
    _delete_journals(journals / name)
    with ledger.deleting() as connection:
        return _delete_rows(connection, name)


def _delete_journals(folder: Path) -> None:
    try:
        for path in folder.glob("*.journal"):
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(file)
        with suppress(FileNotFoundError):
            folder.rmdir()
    except BlockingIOError as error:
        raise JournalAway(f"A producer of run {folder.name} is at work: nothing is deleted.") from error
    except OSError as error:
        raise JournalAway(f"The journals in {folder} cannot be deleted: {error.strerror}.") from error


def _delete_rows(connection: Connection, name: str) -> int:
    count = 0
    tasks = list(connection.scalars(select(done.c.task).distinct()))
    found = _keys(connection, name)
    while keys := list(islice(found, _ROWS)):
        for task in tasks:
            deleted = connection.execute(delete(done).where(done.c.task == task, done.c.key.in_(keys)))
            count += deleted.rowcount
    for table in (eaten, refused, orders, order_sessions):
        count += connection.execute(delete(table).where(table.c.run == name)).rowcount
    return count


def _keys(connection: Connection, name: str) -> Iterator[str]:
    """Yield the keys under which the run's messages are recorded, if their task has no key of its own."""
    rows = connection.execute(select(eaten.c.producer, eaten.c.number).where(eaten.c.run == name)).all()
    for producer, number in rows:
        one = Baozi.model_construct(run=name, producer=producer, number=number, made_at=0.0)
        yield one.id
        yield one.task_id
