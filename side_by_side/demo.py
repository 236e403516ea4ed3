"""The demo: the course's three producers and two consumers on a real broker, watched by Flower, audited."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

from baozi import broker
from baozi.amqp.connection import broker_errors, connect
from baozi.audit import Audit, Dead, settled_audit
from baozi.broker import Broker
from baozi.dead_letters import queue as dead_letters
from baozi.errors import BaoziError, NoBroker
from baozi.language import Sentence, translated
from baozi.ledger import Ledger
from baozi.lines import say
from baozi.process_group import STOP_TIMEOUT, ProcessGroup
from baozi.settings import Settings
from baozi.stop import Interruptions, report_wait_on_signals
from baozi.topology import Topology
from baozi.workload import Workload
from side_by_side.celery_processes import start_flower, start_producer, start_worker

#: Seconds for the workers to be ready, on a slow machine.
_READY_TIMEOUT = 60
#: Seconds that a stopped worker may go on eating.
_SHUTDOWN_TIMEOUT = 5
#: Seconds that a broker may take to end before it is killed (:mod:`baozi.broker`).
_BROKER_TIMEOUT = 30
#: Seconds between two checks of what is awaited.
_LOOK_EVERY = 0.1


class NotInTime(BaoziError):
    """The demo waited too long."""


class Ended(NamedTuple):
    """The result of a demo."""

    sums: Audit
    in_memory: str
    """Why it ran in memory, and what is not promised there; empty if it had a broker."""


def demo(settings: Settings, run: str, pace: float, out: TextIO) -> Ended:
    """Run the demo and audit it. Everything that it starts is stopped when it returns or raises.

    After Ctrl-C it prints what it waits for. A second Ctrl-C ends everything at once.

    Args:
        settings: where the ledger and the logs are.
        run: the name of the run.
        pace: the course's seconds are multiplied by this.
        out: the file for its lines and those of the producers and consumers.

    Raises:
        NotInTime: the workers, the producers or the eating took too long; the message says which.
        BaoziError: the broker, the ledger or one of the processes failed.
    """
    workload = Workload(run=run).paced(pace)
    process_group = ProcessGroup(settings.home / "logs", out)
    starting = _Starting(process_group)
    with (
        report_wait_on_signals(starting.awaited) as told,
        _started_broker(starting, told) as the_broker,
        process_group,
    ):
        environment = {
            "BAOZI_BROKER_URL": the_broker.url,
            "BAOZI_EAT_SECONDS": str(workload.eat_seconds),
            "BAOZI_SOFT_SHUTDOWN_TIMEOUT": str(_SHUTDOWN_TIMEOUT),
        }
        if the_broker.kind == "memory":
            process_group.start(
                "demo",
                "memory",
                ["side_by_side.demo_in_memory", "--run", run, "--pace", str(pace)],
                environment,
            )
            _wait_for(
                process_group.all_done,
                Sentence("the demo in memory"),
                workload.deadline + _READY_TIMEOUT,
                process_group,
            )
            sums = _settled_audit(settings, workload, lambda: None)
        else:
            _work(settings, workload, the_broker, process_group, environment, out)
            sums = _settled_audit(settings, workload, lambda: dead_letters.of_run(run))
        say("主进程", out)
    return Ended(sums, the_broker.why if the_broker.kind == "memory" else "")


class _Starting:
    """What the demo has started and must stop."""

    def __init__(self, process_group: ProcessGroup) -> None:
        self._process_group = process_group
        self.broker = False
        """Whether the demo has started the broker."""

    def awaited(self) -> str:
        """Return what must end and the time limit of each, as part of a sentence; empty if nothing must."""
        awaited: list[str] = []
        if running := self._process_group.running:
            names = _names(running)
            awaited.append(Sentence("{names} ({seconds} s at most)", names=names, seconds=STOP_TIMEOUT))
        if self.broker:
            awaited.append(Sentence("the broker ({seconds} s at most)", seconds=_BROKER_TIMEOUT))
        if len(awaited) > 1:
            return Sentence("{first}, then for {then}", first=awaited[0], then=awaited[1])
        return awaited[0] if awaited else ""


def _work(
    settings: Settings,
    workload: Workload,
    the_broker: Broker,
    process_group: ProcessGroup,
    environment: Mapping[str, str],
    out: TextIO,
) -> None:
    """Start Flower, workers and producers, and wait until the producers are done."""
    consumers_before = _consumer_count(settings)
    flower = start_flower(process_group, the_broker, environment)
    say(
        translated(
            "Flower: {url}  user: {user}  password: {password}",
            url=flower.url,
            user=flower.user,
            password=flower.password,
        ),
        out,
    )
    for name in workload.consumers:
        start_worker(process_group, name, environment)
    ready = consumers_before + len(workload.consumers)
    _wait_for(
        lambda: _consumer_count(settings) >= ready, Sentence("the workers"), _READY_TIMEOUT, process_group
    )
    say(
        translated(
            "Run {run}: producers {producers}; workers {workers}",
            run=workload.run,
            producers=_names(workload.producers),
            workers=_names(workload.consumers),
        ),
        out,
    )
    producers = [
        start_producer(process_group, name, workload, environment).process for name in workload.producers
    ]
    _wait_for(
        lambda: all(it.poll() == 0 for it in producers),
        Sentence("the producers"),
        workload.deadline,
        process_group,
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _settled_audit(settings: Settings, workload: Workload, dead: Callable[[], Dead]) -> Audit:
    ledger = Ledger(settings.ledger)
    try:
        return settled_audit(ledger, workload.run, dead, workload.deadline, len(workload.producers))
    finally:
        ledger.close()


@contextmanager
def _started_broker(starting: _Starting, told: Interruptions) -> Iterator[Broker]:
    """Yield the broker that runs already, or start one and stop it at the end."""
    try:
        broker.find()
    except NoBroker:
        starting.broker = True
    try:
        yield broker.start()
    finally:
        if starting.broker:
            _stop_broker(told)


def _stop_broker(told: Interruptions) -> None:
    interrupted = False
    while True:
        try:
            broker.stop(told.at_once)
        except KeyboardInterrupt:
            interrupted = True
        else:
            break
    if interrupted:
        raise KeyboardInterrupt


def _consumer_count(settings: Settings) -> int:
    """Return how many consumers the queue has. Declares the queue if it is missing."""
    with connect("demo") as connection, broker_errors():
        topology = Topology.of(settings)
        topology.declare(connection)
        queue: Any = topology.queue()(connection.default_channel)
        return int(queue.queue_declare(passive=True).consumer_count)


def _wait_for(condition: Callable[[], bool], what: str, timeout: float, process_group: ProcessGroup) -> None:
    """Wait until ``condition`` holds, and check meanwhile that no process has failed.

    Raises:
        NotInTime: it did not hold within ``timeout`` seconds.
        ProcessEndedEarly: one of the processes ended with an error.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        process_group.check()
        if time.monotonic() > deadline:
            raise NotInTime(
                "Waited {timeout:.0f} s for {what}, without success. See the logs under {logs}.",
                timeout=timeout,
                what=what,
                logs=process_group.logs,
            )
        time.sleep(_LOOK_EVERY)
