"""The faults that ``baozi prove`` injects into a trial, while calls are executed.

Each repairs what a service manager or an administrator would repair: a killed process is started again.
"""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import psutil

from baozi.errors import BaoziError
from baozi.faults.conditions import CONDITIONS
from baozi.faults.proxy import NetworkCondition
from baozi.faults.signals import kill, send
from baozi.language import Sentence

if TYPE_CHECKING:
    from baozi.prove.lab import AppTrial
    from baozi.prove.records import CallHistory

#: Seconds: to find a call that is executed; for a stopped worker until it is killed, as with `docker stop`.
_IN_FLIGHT, GRACE = 10, 10
#: Seconds that a worker is frozen and that no byte arrives: the broker misses its heartbeat by then.
_FROZEN = 13
#: Seconds that packets are late, and that an alarm is on.
_SLOW, _ALARM = 5, 5
#: Seconds that a queue must have existed before its node is killed (docs/reliability.md, "Not promised").
_QUEUE_AGE = 4


@dataclass(frozen=True)
class AppFault:
    """A fault that any app can have."""

    does: str
    """What it breaks, in one sentence."""
    inject: Callable[["AppTrial", Random], str]
    """Injects it, and returns what was hit."""
    quiet: float = 8
    """Seconds without an event after which work does not go on any more."""
    breaks_broker: bool = False
    """Whether it needs a broker that was started for it."""


def _tree(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def _kill_pool_child(trial: "AppTrial", chance: Random) -> str:
    children = {it.pid: it for it in trial.children()}

    def busy() -> "list[CallHistory]":
        return trial.records.in_flight(children)

    try:
        calls = trial.wait_until(busy, "a call to be executed", _IN_FLIGHT)
        pid = chance.choice(sorted(it.process for it in calls if it.process is not None))
    except BaoziError:  # too short to be seen
        pid = chance.choice(sorted(children))
    kill([children[pid]])
    return "a pool process"


def _kill_worker(trial: "AppTrial", chance: Random) -> str:
    worker = chance.choice(trial.workers())
    tree = _tree(worker)
    trial.expect_end_of(worker)
    kill(tree)
    trial.start_worker()
    return "a worker and its pool"


def _orphan_pool(trial: "AppTrial", chance: Random) -> str:
    trial.children()
    worker = chance.choice(trial.workers())
    trial.expect_end_of(worker)
    kill([worker])
    trial.start_worker()
    return "a worker's main process"


def _stop_worker(trial: "AppTrial", chance: Random) -> str:
    worker = chance.choice(trial.workers())
    tree = _tree(worker)
    trial.expect_end_of(worker)
    worker.terminate()
    _, alive = psutil.wait_procs(tree, timeout=GRACE)
    kill(alive)
    trial.start_worker()
    return "a worker, which was killed after its grace period" if alive else "a worker"


def _freeze_worker(trial: "AppTrial", chance: Random) -> str:
    tree = _tree(chance.choice(trial.workers()))
    send(tree, signal.SIGSTOP)
    try:
        time.sleep(_FROZEN)
    finally:
        send(tree, signal.SIGCONT)
    return f"a worker, for {_FROZEN} s"


def _kill_producer(trial: "AppTrial", _: Random) -> str:
    kill([trial.producer.process])
    trial.producer.process.wait()
    trial.records.refresh()
    trial.producers -= 1
    done = [it.number for it in trial.records.calls.values()]
    trial.start_producer(max(done, default=-1) + 1)
    return "the producer"


def _kill_broker(trial: "AppTrial", chance: Random) -> str:
    node = trial.lab.broker.node
    assert node is not None, "the plan has only faults that fit the broker"  # noqa: S101  # a mypy narrowing
    time.sleep(_QUEUE_AGE)
    node.kill(chance)
    node.revive()
    return "the broker"


def _memory_alarm(trial: "AppTrial", _: Random) -> str:
    node = trial.lab.broker.node
    assert node is not None, "the plan has only faults that fit the broker"  # noqa: S101  # a mypy narrowing
    watermark = "set_vm_memory_high_watermark"
    node.control(watermark, "0.000001")
    try:
        time.sleep(_ALARM)
    finally:
        node.control(watermark, "0.6")
    return f"all publishers, for {_ALARM} s"


def _cut(trial: "AppTrial", _: Random) -> str:
    return f"{trial.proxy.cut()} connections"


def _bad_network(name: str, seconds: float) -> Callable[["AppTrial", Random], str]:
    def inject(trial: "AppTrial", chance: Random) -> str:
        trial.proxy.set_condition(CONDITIONS[name](chance))
        try:
            time.sleep(seconds)
        finally:
            trial.proxy.set_condition(NetworkCondition())
        return f"all connections, for {seconds:g} s"

    return inject


#: All faults by name, in the order in which they are injected.
FAULTS: dict[str, AppFault] = {
    "kill-pool-child": AppFault(Sentence("Kills a pool process that executes a task."), _kill_pool_child),
    "kill-worker": AppFault(Sentence("Kills a worker with its pool, and starts it again."), _kill_worker),
    "orphan-pool": AppFault(
        Sentence("Kills a worker's main process only, and starts it again."), _orphan_pool
    ),
    "stop-worker": AppFault(
        Sentence(
            "Sends SIGTERM to a worker, kills it after {seconds} s, and starts it again, as a deployment"
            " does.",
            seconds=GRACE,
        ),
        _stop_worker,
    ),
    "freeze-worker": AppFault(
        Sentence("Freezes a worker until the broker misses its heartbeat."), _freeze_worker, quiet=15
    ),
    "kill-producer": AppFault(
        Sentence("Kills the producer, and starts it again with the next call."), _kill_producer
    ),
    "kill-broker": AppFault(
        Sentence("Kills the broker, and starts it again."), _kill_broker, quiet=30, breaks_broker=True
    ),
    "memory-alarm": AppFault(
        Sentence("Turns the broker's memory alarm on and off."), _memory_alarm, breaks_broker=True
    ),
    "cut": AppFault(Sentence("Closes every connection."), _cut, quiet=15),
    "blackhole": AppFault(
        Sentence("No byte arrives, in either direction, until heartbeats are missed."),
        _bad_network("blackhole", _FROZEN),
        quiet=20,
    ),
    "latency": AppFault(
        Sentence("Each packet is about a second late."), _bad_network("latency", _SLOW), quiet=12
    ),
}
