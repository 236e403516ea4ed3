"""What is measured: each function makes one turn of one contender, on a stand of its own."""

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from baozi.audit import settled_audit
from baozi.broker.temporary import TemporaryBroker
from baozi.journal import Event, read_journal
from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from benchmarks import contenders, measuring
from benchmarks.contenders import Eater, PublishingContender
from benchmarks.measuring import Stand, stand
from benchmarks.results import Measure, Turn
from benchmarks.tally import read_tally

#: Seconds of publishing; of eating at a fixed rate; baozi a second at that rate.
_PUBLISH_SECONDS, _RATE_SECONDS, _RATE = 2.0, 5.0, 50.0
#: Seconds for the last to be eaten, and the order to be closed.
_SETTLE = 120


@dataclass(frozen=True, slots=True)
class Job:
    """One turn to be made."""

    measure: Measure
    name: str
    promises: str
    do: Callable[[Stand], tuple[float, float | None, int | None]]
    """Returns the value, a 99th percentile, and how many were lost."""

    def turn(self, broker: TemporaryBroker, number: int) -> Turn:
        """Make the turn.

        Raises:
            BaoziError: a process failed, or took too long.
        """
        with stand(broker) as here:
            value, p99, lost = self.do(here)
        return Turn(
            measure=self.measure,
            contender=self.name,
            promises=self.promises,
            turn=number,
            value=value,
            p99=p99,
            lost=lost,
        )


def jobs(measures: set[Measure], part: float = 1) -> list[Job]:
    """Return the jobs in which each contender is measured once.

    Args:
        measures: which measures.
        part: the factor for the sizes of the backlogs.
    """
    made = [_publishing(it) for it in contenders.PUBLISHERS]
    made += [_eating(Measure.EAT, it, part) for it in contenders.EATERS]
    made += [_eating(Measure.BOTH, it, part, at_once=True) for it in contenders.BOTH]
    made += [_at_a_rate(it, it.filled_by) for it in contenders.AT_A_RATE if it.filled_by]
    made += [_eating(Measure.QUEUES, it, part) for it in contenders.QUEUES]
    made += [_eating(Measure.GROWTH, it, part) for it in contenders.GROWTH]
    made += [_publishing(it, Measure.WINDOW) for it in contenders.WINDOWS]
    made += [_eating(Measure.KNOBS, it, part) for it in contenders.KNOBS]
    return [job for job in made if job.measure in measures]


def memory_jobs() -> list[Job]:
    """Return the jobs that measure memory. They are done only once: a backlog of a million takes minutes."""
    return [_memory(backlog, role) for role in ("worker", "producer") for backlog in contenders.BACKLOGS]


def _publishing(publisher: PublishingContender, measure: Measure = Measure.PUBLISH) -> Job:
    def do(here: Stand) -> tuple[float, None, None]:
        said = here.publish(publisher, seconds=_PUBLISH_SECONDS)
        return said["count"] / said["seconds"], None, None

    return Job(measure, publisher.name, publisher.promises, do)


def _eating(measure: Measure, eater: Eater, part: float, *, at_once: bool = False) -> Job:
    def do(here: Stand) -> tuple[float, None, int | None]:
        if eater.filled_by is None:
            here.start(eater)
            return measuring.rate_of(here, eater, eater.backlog), None, None
        goal = round(eater.backlog * part)
        if at_once:
            here.start(eater)
            with here.publishing(eater.filled_by, count=goal):
                rate = measuring.rate_of(here, eater, goal)
        else:
            here.publish(eater.filled_by, count=goal)
            here.start(eater)
            rate = measuring.rate_of(here, eater, goal)
        return rate, None, _lost(here, eater)

    return Job(measure, eater.name, eater.promises, do)


def _at_a_rate(eater: Eater, publisher: PublishingContender) -> Job:
    def do(here: Stand) -> tuple[float, float, int | None]:
        here.start(eater, journal=True)
        # One message first, so that the queues are declared, the modules imported and the connections open.
        here.publish(publisher, count=1)
        here.wait_for(eater, 1)
        count = int(_RATE * _RATE_SECONDS)
        here.publish(publisher, count=count, rate=_RATE)
        here.wait_for(eater, count)
        return *measuring.waits(_our_waits(here) if eater.ours else read_tally(here.folder)[1]), None

    return Job(Measure.LATENCY, eater.name, eater.promises, do)


def _our_waits(here: Stand) -> list[float]:
    """Return the latencies of Baozi: seconds from making to the commit, by the journal."""
    committed = {
        entry.baozi_id: entry.at
        for path in here.journals.rglob("*.journal")
        for entry in read_journal(path)
        if entry.event is Event.EATEN
    }
    with contextlib.closing(sqlite3.connect(here.ledger)) as ledger:
        made = ledger.execute("SELECT baozi_id, made_at FROM eaten ORDER BY made_at").fetchall()
    return [committed[baozi_id] - made_at for baozi_id, made_at in made if baozi_id in committed]


def _memory(backlog: int, role: str) -> Job:
    def do(here: Stand) -> tuple[float, None, None]:
        eater = contenders.ours()
        used = here.publish_and_weigh(contenders.OURS, count=backlog)
        if role == "worker":
            members = here.start(eater)
            here.wait_for(eater, min(contenders.BACKLOGS) * 9 // 10)
            used = measuring.memory_of([member.process for member in members])
        return used, None, None

    return Job(Measure.MEMORY, f"{role}, backlog {backlog:,}", "", do)


def _lost(here: Stand, eater: Eater) -> int | None:
    """Return how many baozi the audit counts as lost, or None for a peer."""
    if not eater.ours:
        return None
    ledger = Ledger(file_url(here.ledger))
    try:
        return settled_audit(ledger, "bench", lambda: {}, _SETTLE).total.lost
    finally:
        ledger.close()
