"""The demo: the course's three producers and two consumers on a real broker, watched by Flower, audited."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from baozi import broker
from baozi.audit import Audit, settled_audit
from baozi.broker import Broker
from baozi.errors import BaoziError, NoBroker
from baozi.ledger import Ledger
from baozi.settings import Settings
from side_by_side.actors import start_flower, start_producer, start_worker
from side_by_side.crew import Crew
from tasks import dead_letters, topology
from tasks.connection import connect, using

#: The course's names, its baozi a producer, and its seconds to make and to eat one.
PRODUCERS = ("alex", "peiqi", "egon")
CONSUMERS = ("小明", "小红")
PER_PRODUCER = 10
MAKE_SECONDS = 1.0
EAT_SECONDS = 2.0

#: Seconds for the workers to be ready, on a slow machine.
_READY_TIMEOUT = 60
#: Seconds, beyond the work's own, for the producers, and then for the consumers, to be done.
_DONE_TIMEOUT = 60
#: Seconds between two looks at what is awaited.
_LOOK_EVERY = 0.1


class NotInTime(BaoziError):
    """What was awaited did not come in time."""


def demo(settings: Settings, run: str, pace: float, out: TextIO) -> Audit:
    """Run the demo and audit it. All that it starts is stopped when it returns or raises.

    Args:
        settings: where the ledger and the logs are.
        run: the run's name.
        pace: factor on the course's seconds.
        out: where its lines and those of the producers and consumers go.

    Raises:
        NotInTime: the workers, the producers or the eating took too long; says which.
        BaoziError: the broker, the ledger or one of the processes failed.
    """
    work = PER_PRODUCER * pace * max(MAKE_SECONDS, EAT_SECONDS * len(PRODUCERS) / len(CONSUMERS))
    with _started_broker() as the_broker, Crew(settings.home / "logs", out) as crew:
        environment = {"BAOZI_BROKER_URL": the_broker.url, "BAOZI_EAT_SECONDS": str(EAT_SECONDS * pace)}
        consumers_before = _consumer_count(settings)
        flower = start_flower(crew, the_broker.management_url, environment)
        _say(out, f"Flower: {flower.url}  user: {flower.user}  password: {flower.password}")
        for name in CONSUMERS:
            start_worker(crew, name, environment)
        ready = consumers_before + len(CONSUMERS)
        _wait_for(lambda: _consumer_count(settings) >= ready, "the workers", _READY_TIMEOUT, crew)
        _say(out, f"Run {run}: producers {', '.join(PRODUCERS)}; workers {', '.join(CONSUMERS)}")
        producers = [
            start_producer(crew, name, run, PER_PRODUCER, MAKE_SECONDS * pace, environment)
            for name in PRODUCERS
        ]
        done = [member.process for member in producers]
        _wait_for(lambda: all(it.poll() == 0 for it in done), "the producers", work + _DONE_TIMEOUT, crew)
        sums = _settled_audit(settings, run, work + _DONE_TIMEOUT)
        crew.check()
    _say(out, "主进程")
    return sums


def _say(out: TextIO, line: str) -> None:
    # At once, or it would stand behind the lines of the processes that share this output.
    print(line, file=out, flush=True)


def _settled_audit(settings: Settings, run: str, wait: float) -> Audit:
    ledger = Ledger(settings.ledger)
    try:
        dead = lambda: dead_letters.count_by_producer(run)  # noqa: E731  # a name makes it no clearer
        return settled_audit(ledger, run, dead, wait, orders_due=len(PRODUCERS))
    finally:
        ledger.close()


@contextmanager
def _started_broker() -> Iterator[Broker]:
    """The broker that is there, or else one that is started now and stopped at the end."""
    try:
        yield broker.find()
        return
    except NoBroker:
        pass
    started = broker.start()
    try:
        yield started
    finally:
        broker.stop()


def _consumer_count(settings: Settings) -> int:
    """How many consumers the queue has; declares it where it is missing."""
    with connect("demo") as connection, using():
        topology.declare(connection, settings)
        queue: Any = topology.queue(settings)(connection.default_channel)
        return int(queue.queue_declare(passive=True).consumer_count)


def _wait_for(condition: Callable[[], bool], what: str, timeout: float, crew: Crew) -> None:
    """Wait until ``condition`` holds, and see meanwhile that the crew is well.

    Raises:
        NotInTime: it did not hold within ``timeout`` seconds.
        MemberFailed: one of the crew ended with an error.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        crew.check()
        if time.monotonic() > deadline:
            raise NotInTime(f"Waited {timeout:.0f} s in vain for {what}; see the logs under {crew.logs}.")
        time.sleep(_LOOK_EVERY)
