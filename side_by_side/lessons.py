"""The lessons of ``local_mp`` as transports: the course's own producers and consumers, under observation."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from secrets import token_bytes
from types import ModuleType
from typing import Any, cast

from baozi.journal import Journal
from baozi.workload import Workload
from local_mp import joinable_queue, observed, sentinel_queue
from local_mp.file_lock import SharedFile
from local_mp.manager_address import ManagerAddress
from local_mp.pipe_lock import SLOTS, LockedPipe
from side_by_side.stage import Role, Stage


@dataclass(frozen=True, slots=True)
class Lesson:
    """How a lesson is run on a stage. A further one is an entry in ``LESSONS``."""

    module: ModuleType
    """Has the lesson's producer and consumer."""
    make: Callable[[Stage], Any]
    """Makes what the processes share."""
    opened: Callable[[Any], AbstractContextManager[Any]] = nullcontext
    """Opens that in a process: yields an object with ``put`` and ``get``."""


def run_lesson(name: str, stage: Stage) -> None:
    """Do the stage's workload with the lesson ``name``.

    Raises:
        DeadlinePassed, ActorFailed: as :meth:`Stage.wait`.
    """
    run_lesson_on(LESSONS[name].make(stage), name, stage)


def run_lesson_on(shared: Any, name: str, stage: Stage) -> None:
    """Do the stage's workload with the lesson ``name`` on ``shared``, which has ``put`` and ``get``.

    Raises:
        DeadlinePassed, ActorFailed: as :meth:`Stage.wait`.
    """
    channel, workload = (name, shared), stage.workload
    # The consumers of a JoinableQueue do not end by themselves.
    daemon = LESSONS[name].module is joinable_queue
    producers = [stage.start(Role.PRODUCER, _produce, channel, one) for one in workload.producers]
    consumers = [
        stage.start(Role.CONSUMER, _consume, channel, one, daemon=daemon) for one in workload.consumers
    ]
    stage.wait(producers)
    if not daemon:
        # A process of its own puts the None: a put can wait without end, and the parent must stay free.
        stage.start(Role.CLOSER, close, channel, "close")
        stage.wait(consumers)


def _produce(channel: tuple[str, Any], name: str, workload: Workload, journal: Journal) -> None:
    lesson = LESSONS[channel[0]]
    with lesson.opened(channel[1]) as queue:
        observed.produce(lesson.module, queue, name, workload, journal)


def _consume(channel: tuple[str, Any], name: str, workload: Workload, journal: Journal) -> None:
    lesson = LESSONS[channel[0]]
    with lesson.opened(channel[1]) as queue:
        observed.consume(lesson.module, queue, name, workload, journal)


def close(channel: tuple[str, Any], _name: str, workload: Workload, _journal: Journal) -> None:
    """Put one ``None`` for each consumer."""
    with LESSONS[channel[0]].opened(channel[1]) as queue:
        for _ in workload.consumers:
            queue.put(None)


def _shared_file(stage: Stage) -> SharedFile:
    stage.folder.mkdir(parents=True, exist_ok=True)
    return SharedFile(stage.folder, stage.mp.Lock(), stage.workload.capacity)


def _locked_pipe(stage: Stage) -> LockedPipe:
    return LockedPipe(stage.workload.capacity or SLOTS, stage.mp)


def _queue(stage: Stage) -> Any:
    return stage.mp.Queue(stage.workload.capacity or 0)  # 0: no bound


def _joinable_queue(stage: Stage) -> Any:
    return stage.mp.JoinableQueue(stage.workload.capacity or 0)


def _manager(stage: Stage) -> ManagerAddress:
    """Start the server; return its address."""
    address = ManagerAddress("127.0.0.1", 0, token_bytes(32))
    here, there = stage.mp.Pipe(duplex=False)
    stage.start(Role.STORE, _serve, (address, there), "manager")
    there.close()  # the server has its own: if it is killed, we read the end of the pipe
    return replace(address, port=cast(int, stage.hear(here)))


def _serve(
    inside: "tuple[ManagerAddress, Connection[Any, Any]]", _name: str, workload: Workload, _journal: Journal
) -> None:
    address, parent = inside
    address.serve(workload.capacity, parent.send)


#: By name, in the course's order.
LESSONS: dict[str, Lesson] = {
    "file-lock": Lesson(sentinel_queue, _shared_file),
    "pipe-lock": Lesson(sentinel_queue, _locked_pipe),
    "queue": Lesson(sentinel_queue, _queue),
    "joinable-queue": Lesson(joinable_queue, _joinable_queue),
    "manager-queue": Lesson(sentinel_queue, _manager, ManagerAddress.opened),
}
