"""Faults of ``baozi compare``: kill one process at the moment when its journal shows what it is doing."""

import time
from collections.abc import Mapping
from contextlib import suppress
from random import Random

import psutil

from baozi.journal import Event
from baozi.language import Sentence
from side_by_side.comparison_results import Verdict
from side_by_side.faults.fault import Case, Effect, Fault, Killed
from side_by_side.journal_analysis import count, read_lines
from side_by_side.multiprocessing_group import Role
from side_by_side.observed_run import ObservedProcess, ObservedRun

#: Seconds after its last journal line in which a consumer counts as idle: it has had time to wait for the
#: next baozi, and the next baozi is not there yet (the workload makes one each 0.25 s).
_IDLE_FROM, _IDLE_TO = 0.03, 0.1
#: Seconds for which a process that polls is watched. local_mp's file is polled a hundred times a second.
_WATCHED = 0.05
#: Seconds between seeing a process fall asleep and killing it: well below its sleep.
_PROMPT = 0.004
#: How many baozi must be accepted and not eaten, so that a store has something to lose.
_BACKLOG = 5

#: Two consumers eat slowly, so that one is busy at any moment.
_EATING: dict[str, object] = {
    "producers": ("alex",),
    "per_producer": 5,
    "make_seconds": 0.05,
    "eat_seconds": 0.3,
}
#: Baozi come slowly, so that the consumers wait most of the time.
_WAITING: dict[str, object] = {
    "producers": ("alex",),
    "per_producer": 8,
    "make_seconds": 0.25,
    "eat_seconds": 0.05,
}
#: A producer pauses after each put. It is killed in the pause.
_MAKING: dict[str, object] = {
    "producers": ("alex", "peiqi"),
    "per_producer": 8,
    "make_seconds": 0.2,
    "eat_seconds": 0.0,
}
#: More is put at once than a Queue's pipe holds. Most of it is still in the producer, whose thread holds the
#: pipe's lock and waits to write more. With trays, the thread does almost nothing but wait.
_BURST: dict[str, object] = {
    "producers": ("alex",),
    "per_producer": 4000,
    "make_seconds": 0.0,
    "eat_seconds": 0.002,
    "tray": 40,
}
#: Two producers: the one that is not killed joins a queue that still counts what the killed one has put.
_BURST_OF_TWO = _BURST | {"producers": ("alex", "peiqi"), "per_producer": 2000}
#: More is made than can be eaten meanwhile, so that the store has something to lose.
_STORING: dict[str, object] = {
    "producers": ("alex", "peiqi"),
    "per_producer": 20,
    "make_seconds": 0.05,
    "eat_seconds": 0.1,
}


def kill_busy_consumer(run: ObservedRun, _: Random) -> Effect | None:
    """Kill a consumer that has started a baozi less than half of its eating time ago."""
    lines = read_lines(run.folder)
    latest = {line.name: line.entry for line in lines if line.entry.event in {Event.STARTED, Event.EATEN}}
    for name, entry in latest.items():
        if entry.event is Event.STARTED and time.time() - entry.at < run.workload.eat_seconds / 2:
            return _kill(_process(run, Role.CONSUMER, name))
    return None


def kill_idle_consumer(run: ObservedRun, _: Random) -> Effect | None:
    """Kill the consumer that has waited longest, when all is eaten and the next baozi is not made yet.

    If two wait at one lock, the one that has waited longest holds it: the other has only just come back.
    """
    lines = read_lines(run.folder)
    attempted = {line.entry.baozi_id for line in lines if line.entry.event is Event.ATTEMPTED}
    last_eaten = {line.name: line.entry.at for line in lines if line.entry.event is Event.EATEN}
    counts = count(line.entry for line in lines)
    if len(last_eaten) < len(run.workload.consumers) or counts.eaten < len(attempted):
        return None
    if not _IDLE_FROM <= time.time() - max(last_eaten.values()) <= _IDLE_TO:
        return None
    consumer = _process(run, Role.CONSUMER, min(last_eaten, key=lambda name: last_eaten[name]))
    if consumer is None:
        return None
    try:
        idle = _asleep(consumer.processes[0])
    except psutil.NoSuchProcess:
        return None  # its work was done
    if not idle or len(read_lines(run.folder)) != len(lines):
        return None
    return _kill(consumer)


def kill_producer(run: ObservedRun, _: Random) -> Effect | None:
    """Kill a producer whose put has just returned; if making takes no time, one that has put half."""
    lines = read_lines(run.folder)
    latest = {
        line.name: line.entry for line in lines if line.entry.event in {Event.ATTEMPTED, Event.ACCEPTED}
    }
    eaten = any(line.entry.event is Event.EATEN for line in lines)
    for name, entry in latest.items():
        if not eaten or entry.event is not Event.ACCEPTED:
            continue
        number, all_of_them = int(entry.baozi_id.rpartition("/")[2]) + 1, run.workload.per_producer
        making = run.workload.make_seconds and time.time() - entry.at < run.workload.make_seconds / 2
        in_a_burst = not run.workload.make_seconds and number >= all_of_them / 2
        if in_a_burst or (making and 2 <= number < all_of_them):
            return _kill(_process(run, Role.PRODUCER, name))
    return None


def kill_store(run: ObservedRun, _: Random) -> Effect | None:
    """Kill the store when it has a backlog and a consumer is eating; then start it again on its data."""
    counts = count(line.entry for line in read_lines(run.folder))
    if not counts.eaten or counts.accepted - counts.eaten < _BACKLOG:
        return None
    effect = _kill(next((one for one in run.processes() if one.role is Role.STORE), None))
    if effect is not None:
        run.revive_store()
    return effect


def _process(run: ObservedRun, role: Role, name: str) -> ObservedProcess | None:
    return next((one for one in run.processes() if (one.role, one.name) == (role, name)), None)


def _kill(observed: ObservedProcess | None) -> Effect | None:
    if observed is None:
        return None
    for process in observed.processes:
        # Erlang's port mapper (epmd) has no messages, and the broker finds it again.
        with suppress(psutil.NoSuchProcess):
            if process.name() != "epmd":
                process.kill()
    return Effect(f"the {observed.role} {observed.name}")


def _asleep(process: psutil.Process) -> bool:
    """Return whether it sleeps and will for a moment: it has just fallen asleep, or slept all the time.

    The operating system counts how often a process gives up the processor. So a process that wakes a hundred
    times a second, to look at a file under its lock, is not killed while it looks.
    """
    began = seen_at = time.monotonic()
    naps = process.num_ctx_switches().voluntary
    while time.monotonic() - began < _WATCHED:
        before, seen_at = seen_at, time.monotonic()
        if process.num_ctx_switches().voluntary != naps:
            return time.monotonic() - before < _PROMPT and process.status() == psutil.STATUS_SLEEPING
    return process.status() == psutil.STATUS_SLEEPING


def _cases(workload: Mapping[str, object], **expected: Verdict) -> dict[str, Case]:
    """Return the case of each transport; ``file_lock`` stands for ``file-lock``."""
    return {name.replace("_", "-"): Case(verdict, workload) for name, verdict in expected.items()}


#: What the broker has confirmed is neither lost nor, thanks to the ledger, eaten twice.
_ON_A_BROKER = {
    "rabbitmq_queue": Verdict.SOUND,
    "celery": Verdict.SOUND,
    "celery_trays": Verdict.SOUND,
}

_BUSY = _cases(
    _EATING,
    file_lock=Verdict.LOST,
    pipe_lock=Verdict.LOST,
    queue=Verdict.LOST,
    joinable_queue=Verdict.WEDGED,
    manager_queue=Verdict.LOST,
    **_ON_A_BROKER,
)
_IDLE = _cases(
    _WAITING,
    # A consumer that polls holds no lock while it sleeps.
    file_lock=Verdict.SOUND,
    pipe_lock=Verdict.WEDGED,
    queue=Verdict.WEDGED,
    joinable_queue=Verdict.WEDGED,
    # The server takes the next baozi out for a client that was killed in get.
    manager_queue=Verdict.LOST,
    **_ON_A_BROKER,
)
_PRODUCER = {
    **_cases(_MAKING, file_lock=Verdict.SOUND, pipe_lock=Verdict.SOUND),
    **_cases(_BURST, queue=Verdict.WEDGED),
    **_cases(_BURST_OF_TWO, joinable_queue=Verdict.WEDGED),
    **_cases(_MAKING, manager_queue=Verdict.SOUND, **_ON_A_BROKER),
}
_STORE = _cases(
    _STORING,
    manager_queue=Verdict.LOST,
    # Unacknowledged baozi are redelivered when the broker is killed, and remote_mp has no ledger.
    rabbitmq_queue=Verdict.DUPLICATED,
    celery=Verdict.SOUND,
    celery_trays=Verdict.SOUND,
)

_HOLDS = "each transport has the verdict that it is known to have; on a broker, nothing accepted is lost"

FAULTS: tuple[Fault[ObservedRun], ...] = (
    Fault(
        "kill-busy-consumer",
        Sentence("Kills a consumer that is eating."),
        _HOLDS,
        kill_busy_consumer,
        transports=tuple(_BUSY),
        kills=Killed.WORKER,
        cases=_BUSY,
    ),
    Fault(
        "kill-idle-consumer",
        Sentence("Kills a consumer that waits for a baozi."),
        _HOLDS,
        kill_idle_consumer,
        transports=tuple(_IDLE),
        kills=Killed.WORKER,
        cases=_IDLE,
    ),
    Fault(
        "kill-producer",
        Sentence("Kills a producer whose put has just returned."),
        _HOLDS,
        kill_producer,
        transports=tuple(_PRODUCER),
        kills=Killed.PRODUCER,
        cases=_PRODUCER,
    ),
    Fault(
        "kill-store",
        Sentence("Kills the process that stores the baozi, and starts it again on its data."),
        _HOLDS,
        kill_store,
        transports=tuple(_STORE),
        elsewhere=Sentence("No process stores the baozi."),
        # A container's broker does not come back at the same address.
        brokers=("private",),
        kills=Killed.BROKER,
        cases=_STORE,
    ),
)
