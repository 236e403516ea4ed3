"""``baozi prune``: deletes the ledger's rows and the journals of runs that are proven sound.

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
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, SkipValidation
from sqlalchemy import Connection, delete, select

from baozi.dead_letters.queue import runs_of_letters
from baozi.errors import JournalAway, UsageError
from baozi.language import Sentence, translated
from baozi.ledger import Ledger
from baozi.ledger_schema import done, eaten, order_sessions, orders, refused
from baozi.lines import say
from baozi.model import Baozi, checked_name
from baozi.quantities import count, memory
from baozi.runs import RunSummary, State, names
from baozi.runs import run as summary_of
from baozi.settings import settings
from baozi.shown import shown, to_json
from baozi.status import queue_states
from baozi.topology import Topology
from baozi.worker.configuration import LONGEST_TASK

#: Seconds of a day.
_DAY = 86_400
#: Seconds after which a message that a worker holds has returned to the queue: twice RabbitMQ's timeout.
_SETTLED_AFTER = 2 * LONGEST_TASK
#: Rows of one statement.
_ROWS = 500


class PrunePlan(BaseModel):
    """Whether one run may be deleted, and how much that would delete."""

    model_config = ConfigDict(frozen=True)

    run: str
    rows: int
    journal_bytes: int
    kept: SkipValidation[str | None] = None  # a sentence stays one
    """Why the run is kept, as a sentence. None if it may be deleted."""


def plans(
    ledger: Ledger,
    journals: Path,
    topology: Topology,
    wanted: Sequence[str],
    older_than: float,
    timeout: float,
) -> list[PrunePlan]:
    """Return the plan for each run. This only reads.

    Args:
        ledger: the ledger.
        journals: the folder of the producers' journals.
        topology: the queues.
        wanted: the names of the runs. If it is empty, all runs.
        older_than: seconds. A run is kept if something in it happened later than that.
        timeout: seconds to wait for the broker.

    Raises:
        UsageError: a run in ``wanted`` does not exist.
        BrokerError: the broker cannot be asked how many messages are in the queue.
        LedgerError: the ledger cannot be read.
    """
    known = names(ledger, journals)
    for name in wanted:
        if name not in known:
            raise UsageError("There is no run {name}; `baozi runs` lists them.", name=name)
    # The dead letters first: a letter that is replayed between the two queries is then in the queue.
    dead = runs_of_letters(timeout)
    work, *_ = queue_states(topology, timeout)
    return [_plan(summary_of(ledger, journals, name), dead, work, older_than) for name in wanted or known]


def _plan(one: RunSummary, dead: set[str], work: dict[str, int | None], older_than: float) -> PrunePlan:
    age = time.time() - (one.last_at or 0)
    unacknowledged = work["unacknowledged"]
    why: str | None = None
    if one.state is not State.SOUND:
        why = Sentence("It is {state}: `baozi audit` says why.", state=one.state)
    elif one.run in dead:
        why = Sentence("Some of it are dead letters: replay or drop them first.")
    elif work["ready"] or unacknowledged:
        why = Sentence("The queue is not empty: a message of this run could still be delivered again.")
    elif unacknowledged is None and age < _SETTLED_AFTER:
        why = Sentence(
            "It is younger than {minutes:.0f} minutes, and what workers hold is not known: a message could"
            " still be delivered again.",
            minutes=_SETTLED_AFTER / 60,
        )
    elif age < older_than:
        why = Sentence("It ended less than --older-than days ago.")
    return PrunePlan(run=one.run, rows=one.rows, journal_bytes=one.journal_bytes, kept=why)


def delete_run(ledger: Ledger, journals: Path, name: str) -> int:
    """Delete the run ``name``. Return the number of deleted rows.

    The journals are deleted first. If this is interrupted after that, the ledger still proves the run, so
    that it can be pruned again.

    Raises:
        JournalAway: a producer has a journal open, or a journal cannot be deleted.
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
        raise JournalAway(
            "A producer of run {name} is at work: nothing is deleted.", name=folder.name
        ) from error
    except OSError as error:
        raise JournalAway(
            "The journals in {folder} cannot be deleted: {strerror}.", folder=folder, strerror=error.strerror
        ) from error


def _delete_rows(connection: Connection, name: str) -> int:
    rows = 0
    tasks = list(connection.scalars(select(done.c.task).distinct()))
    found = _keys(connection, name)
    while keys := list(islice(found, _ROWS)):
        for task in tasks:
            deleted = connection.execute(delete(done).where(done.c.task == task, done.c.key.in_(keys)))
            rows += deleted.rowcount
    for table in (eaten, refused, orders, order_sessions):
        rows += connection.execute(delete(table).where(table.c.run == name)).rowcount
    return rows


def _keys(connection: Connection, name: str) -> Iterator[str]:
    """Yield the default keys of the run's messages: their ids and their Celery task ids."""
    rows = connection.execute(select(eaten.c.producer, eaten.c.number).where(eaten.c.run == name)).all()
    for producer, number in rows:
        one = Baozi.model_construct(run=name, producer=producer, number=number, made_at=0.0)
        yield one.id
        yield one.task_id


def prune(
    wanted: Annotated[list[str] | None, typer.Argument(metavar="[RUN…]", help="Runs; default: all.")] = None,
    older_than: Annotated[
        float, typer.Option(min=0, max=36_500, help="Days since something of a run was eaten or closed.")
    ] = 0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete. Without this option, only list what would be deleted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete journals and ledger rows of runs that are proven sound; without --yes, only say which.

    A run stays if it is not sound, if some of it are dead letters, or if a message of it could still be
    delivered again. Journals on other machines stay.
    """
    names = [checked_name(name, "run", old=True) for name in wanted or []]
    chosen = settings()
    ledger = Ledger(chosen.ledger)
    try:
        found = plans(
            ledger, chosen.runs, Topology.of(chosen), names, older_than * _DAY, chosen.broker_timeout
        )
        kept = [plan for plan in found if plan.kept]
        if names and kept:
            raise UsageError(
                "Nothing is deleted. Run {run} stays. {kept}", run=kept[0].run, kept=kept[0].kept
            )
        deleted = []
        for plan in found:
            if yes and not plan.kept:
                delete_run(ledger, chosen.runs, plan.run)
                deleted.append(plan.run)
    finally:
        ledger.close()
    if as_json:
        say(to_json({"runs": [plan.model_dump() for plan in found], "deleted": deleted}))
        return
    for plan in found:
        say(shown(_line(plan, yes)))
    if not found:
        say(translated("No run is known."))
    elif not yes and len(kept) < len(found):
        say(translated("Nothing was deleted yet. Run the command again with --yes."))


def _line(plan: PrunePlan, yes: bool) -> str:
    if plan.kept:
        return translated("{run} stays. {why}", run=plan.run, why=plan.kept)
    deleted = Sentence("Deleted {run}: {rows} rows of the ledger, {size} of journals.")
    planned = Sentence("Would delete {run}: {rows} rows of the ledger, {size} of journals.")
    template = (deleted if yes else planned).template
    return translated(template, run=plan.run, rows=count(plan.rows), size=memory(plan.journal_bytes))
