"""The demo: the course's three producers and two consumers on a real broker, watched by Flower, audited."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from baozi import broker
from baozi.amqp.connection import connect, using
from baozi.audit import Audit, Dead, settled_audit
from baozi.broker import Broker
from baozi.dead_letters import queue as dead_letters
from baozi.errors import BaoziError, NoBroker
from baozi.ledger import Ledger
from baozi.lines import say
from baozi.settings import Settings
from baozi.topology import Topology
from baozi.workload import Workload
from side_by_side.actors import start_flower, start_producer, start_worker
from side_by_side.crew import Crew

#: Seconds for the workers to be ready, on a slow machine.
_READY_TIMEOUT = 60
#: Seconds that a worker may go on eating when the demo stops it.
_SHUTDOWN_TIMEOUT = 5
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
    workload = Workload(run=run).paced(pace)
    with _started_broker() as the_broker, Crew(settings.home / "logs", out) as crew:
        environment = {
            "BAOZI_BROKER_URL": the_broker.url,
            "BAOZI_EAT_SECONDS": str(workload.eat_seconds),
            "BAOZI_SOFT_SHUTDOWN_TIMEOUT": str(_SHUTDOWN_TIMEOUT),
        }
        if the_broker.kind == "memory":
            crew.start(
                "demo", "memory", ["side_by_side.in_memory", "--run", run, "--pace", str(pace)], environment
            )
            _wait_for(crew.all_done, "the demo in memory", workload.deadline + _READY_TIMEOUT, crew)
            sums = _settled_audit(settings, workload, lambda: None)
        else:
            _work(settings, workload, the_broker, crew, environment, out)
            sums = _settled_audit(settings, workload, lambda: dead_letters.of_run(run))
    say("主进程", out)
    return sums


def _work(
    settings: Settings,
    workload: Workload,
    the_broker: Broker,
    crew: Crew,
    environment: Mapping[str, str],
    out: TextIO,
) -> None:
    """Start everybody, and wait until the producers are done."""
    consumers_before = _consumer_count(settings)
    flower = start_flower(crew, the_broker, environment)
    say(f"Flower: {flower.url}  user: {flower.user}  password: {flower.password}", out)
    for name in workload.consumers:
        start_worker(crew, name, environment)
    ready = consumers_before + len(workload.consumers)
    _wait_for(lambda: _consumer_count(settings) >= ready, "the workers", _READY_TIMEOUT, crew)
    say(
        f"Run {workload.run}: producers {_names(workload.producers)}; workers {_names(workload.consumers)}",
        out,
    )
    producers = [start_producer(crew, name, workload, environment).process for name in workload.producers]
    _wait_for(lambda: all(it.poll() == 0 for it in producers), "the producers", workload.deadline, crew)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _settled_audit(settings: Settings, workload: Workload, dead: Callable[[], Dead]) -> Audit:
    ledger = Ledger(settings.ledger)
    try:
        return settled_audit(ledger, workload.run, dead, workload.deadline, len(workload.producers))
    finally:
        ledger.close()


@contextmanager
def _started_broker() -> Iterator[Broker]:
    """The broker that is there, or else one that is started now and stopped at the end."""
    try:
        broker.find()
        was_there = True
    except NoBroker:
        was_there = False
    try:
        yield broker.start()
    finally:
        if not was_there:
            broker.stop()


def _consumer_count(settings: Settings) -> int:
    """How many consumers the queue has; declares it where it is missing."""
    with connect("demo") as connection, using():
        topology = Topology.of(settings)
        topology.declare(connection)
        queue: Any = topology.queue()(connection.default_channel)
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
