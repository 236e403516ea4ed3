"""What is measured: each job makes one turn of one contender, or of several that share a backlog."""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from baozi.audit import settled_audit
from baozi.errors import BaoziError
from baozi.journal import Event, read_journal
from baozi.ledger import Ledger
from benchmarks import bought, contenders, measuring
from benchmarks.contenders import POSTGRESQL, SQLITE, Eater, PublishingContender
from benchmarks.measuring import Rig, Stand, TooSlow, stand
from benchmarks.not_measured import NotMeasured
from benchmarks.results import Gap, Measure, Tried, Turn
from benchmarks.tally import read_tally

#: Seconds of publishing; of eating at a fixed rate; baozi a second at that rate.
_PUBLISH_SECONDS, _RATE_SECONDS, _RATE = 2.0, 5.0, 50.0
#: Seconds for the rest to be eaten, and for the audit.
_REST, _AUDIT = 60, 20


@dataclass(frozen=True, slots=True)
class ContenderRow:
    """One row of the tables: a contender under one measure."""

    measure: Measure
    name: str
    settings: str
    promises: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What a turn found: the value in the measure's unit, a 99th percentile, and how many were lost."""

    value: float
    p99: float | None = None
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One turn to be made, of one row or of several."""

    rows: tuple[ContenderRow, ...]
    do: Callable[[Stand], Iterator[Measured]]
    """Yields a result for each row."""

    def turn(self, rig: Rig, on: str, number: int) -> list[Turn | Gap]:
        """Make the turn. What cannot be measured, or fails, is a gap with its reason.

        Args:
            rig: what the measurements share.
            on: the kind of broker.
            number: which turn it is, from 0.
        """
        found: list[Measured] = []
        failure: Exception | None = None
        try:
            with stand(rig) as here:
                found += self.do(here)
        except (BaoziError, OSError, psycopg.Error, SQLAlchemyError) as error:
            failure = error
        made: list[Turn | Gap] = []
        for place, row in enumerate(self.rows):
            known = Tried(
                measure=row.measure,
                contender=row.name,
                settings=row.settings,
                promises=row.promises,
                turn=number,
                on=on,
            )
            result = found[place] if place < len(found) else failure
            if isinstance(result, Measured):
                made.append(known.with_result(result.value, result.p99, result.lost))
            else:
                reason = " ".join(str(result or "nothing was measured").split())
                made.append(known.without_result(reason, failed=not isinstance(result, NotMeasured)))
        return made


def jobs(measures: Set[Measure], part: float = 1) -> list[Job]:
    """Return the jobs in which each contender is measured once.

    Args:
        measures: which measures.
        part: the factor for the sizes of the backlogs.
    """
    made = [_eating(Measure.TASKS, it, part) for it in contenders.TASKS]
    made += [_eating(Measure.EVENTS, it, part) for it in contenders.EVENTS]
    made += [_eating(Measure.INSERT, it, part) for it in contenders.INSERTS]
    made += [_publishing(it) for it in contenders.PUBLISHERS]
    made += [_eating(Measure.EAT, it, part) for it in contenders.EATERS]
    made += [_eating(Measure.BOTH, it, part, at_once=True) for it in contenders.BOTH]
    made += [_at_a_rate(it, it.filled_by) for it in contenders.AT_A_RATE if it.filled_by]
    made += [_eating(Measure.QUEUES, it, part) for it in contenders.QUEUES]
    made += [_eating(Measure.GROWTH, it, part) for it in contenders.GROWTH]
    made += [_publishing(it, Measure.WINDOW) for it in contenders.WINDOWS]
    made += [_eating(Measure.KNOBS, it, part) for it in contenders.KNOBS]
    return [job for job in made if job.rows[0].measure in measures]


def memory_jobs(part: float = 1) -> list[Job]:
    """Return the jobs that measure memory. They are done only once: a backlog of a million takes minutes."""
    return [
        _memory(max(_LEAST, round(backlog * part)), database)
        for database in (SQLITE, POSTGRESQL)
        for backlog in contenders.BACKLOGS
    ]


def _row(measure: Measure, contender: Eater | PublishingContender) -> ContenderRow:
    return ContenderRow(measure, contender.name, contender.settings, contender.promises)


def _publishing(publisher: PublishingContender, measure: Measure = Measure.PUBLISH) -> Job:
    def do(here: Stand) -> Iterator[Measured]:
        said = here.publish(publisher, seconds=_PUBLISH_SECONDS)
        yield Measured(said["count"] / said["seconds"])

    return Job((_row(measure, publisher),), do)


#: The fewest baozi of a measurement, so that there is something to measure: of tasks that sleep for long, and
#: of others.
_FEWEST, _LEAST = 20, 1_000
#: Seconds from which a task sleeps for long.
_LONG = 0.005


def _goal(eater: Eater, part: float) -> int:
    whole = eater.backlog_for_its_tasks
    if eater.filled_by is None:
        return whole  # a queue in memory would be done before the second look
    return min(whole, max(round(whole * part), _FEWEST if eater.task_seconds > _LONG else _LEAST))


def _eating(measure: Measure, eater: Eater, part: float, *, at_once: bool = False) -> Job:
    def do(here: Stand) -> Iterator[Measured]:
        goal = _goal(eater, part)
        if eater.table == bought.bought.name and eater.database:
            bought.make(here.database(eater.database).url)
        if eater.filled_by is None:
            here.start(eater, goal)
            rate = measuring.rate_of(here, eater, goal)
        elif at_once:
            here.start(eater)
            with here.publishing(eater.filled_by, count=goal):
                rate = measuring.rate_of(here, eater, goal)
        else:
            here.publish(eater.filled_by, count=goal)
            here.start(eater)
            rate = measuring.rate_of(here, eater, goal)
        yield Measured(rate, lost=_lost(here, eater, goal))

    return Job((_row(measure, eater),), do)


def _at_a_rate(eater: Eater, publisher: PublishingContender) -> Job:
    def do(here: Stand) -> Iterator[Measured]:
        here.start(eater, journal=True)
        # One message first, so that the queues are declared, the modules imported and the connections open.
        here.publish(publisher, count=1)
        here.wait_for(eater, 1)
        count = int(_RATE * _RATE_SECONDS)
        here.publish(publisher, count=count, rate=_RATE)
        here.wait_for(eater, count)
        found = _our_waits(here, eater.database) if eater.database else read_tally(here.folder)[1]
        yield Measured(*measuring.waits(found))

    return Job((_row(Measure.LATENCY, eater),), do)


def _our_waits(here: Stand, database: str) -> list[float]:
    """Return the latencies of Baozi: seconds from making to the commit, by the journal."""
    committed = {
        entry.baozi_id: entry.at
        for path in here.journals.rglob("*.journal")
        for entry in read_journal(path)
        if entry.event is Event.EATEN
    }
    made = here.database(database).rows("SELECT baozi_id, made_at FROM eaten ORDER BY made_at")
    return [committed[baozi_id] - made_at for baozi_id, made_at in made if baozi_id in committed]


#: Seconds for the few that a worker eats before it is weighed.
_FEW_EATEN = 120


def _memory(backlog: int, database: str) -> Job:
    """Return the job that fills a queue, and weighs a worker; with SQLite the producer, too.

    Each ledger has a queue of its own, because a queue belongs to one ledger.
    """
    worker = contenders.ours(f"worker, {database}", database=database)
    names = ["producer", worker.name] if database == SQLITE else [worker.name]
    rows = tuple(
        ContenderRow(Measure.MEMORY, f"{name}, backlog {backlog:,}", worker.settings, "") for name in names
    )

    def do(here: Stand) -> Iterator[Measured]:
        here.database(database)  # before minutes are spent on the backlog
        used = here.publish_and_weigh(contenders.OURS, count=backlog)
        if len(names) > 1:
            yield Measured(used)
        members = here.start(worker)
        # So few that the smallest backlog is not eaten up.
        here.wait_for(worker, min(4_000, backlog // 2), _FEW_EATEN)
        yield Measured(measuring.memory_of([member.process for member in members]))

    return Job(rows, do)


class BaoziLost(BaoziError):
    """The audit after a measurement counts lost baozi, so that its speed means nothing."""


def _lost(here: Stand, eater: Eater, goal: int) -> int | None:
    """Wait for the rest, and audit. Return 0, or None if there is no ledger or the rest takes long.

    Raises:
        BaoziLost: the audit counts a loss.
    """
    if not eater.audited or eater.database is None:
        return None
    try:
        here.wait_for(eater, goal, _REST)
    except TooSlow:
        return None
    ledger = Ledger(here.database(eater.database).url)
    try:
        lost = settled_audit(ledger, "bench", lambda: {}, _AUDIT).total.lost
    finally:
        ledger.close()
    if lost:
        raise BaoziLost(f"the audit counts {lost} lost baozi")
    return lost
