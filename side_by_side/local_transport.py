"""Runs a workload on a transport of ``local_mp``: the course's own producers and consumers, with journals."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from secrets import token_bytes
from types import ModuleType
from typing import Any, cast

import psutil

from baozi.journal import Journal
from baozi.workload import Workload
from local_mp import joinable_queue, observed, sentinel_queue
from local_mp.file_lock import SharedFile
from local_mp.manager_address import ManagerAddress
from local_mp.pipe_lock import SLOTS, LockedPipe
from side_by_side.multiprocessing_group import MultiprocessingGroup, Role
from side_by_side.observed_run import ObservedProcess, OnTick


@dataclass(frozen=True)
class LocalRun:
    """A run on this machine as faults and the resource meter see it: the group's processes."""

    group: MultiprocessingGroup
    known: dict[int, psutil.Process] = field(default_factory=dict)

    @property
    def workload(self) -> Workload:
        """The workload of the group."""
        return self.group.workload

    @property
    def folder(self) -> Path:
        """The folder of the group."""
        return self.group.folder

    def processes(self) -> list[ObservedProcess]:
        """Return the group's processes."""
        found = []
        for one in self.group.processes:
            with suppress(psutil.NoSuchProcess):
                process = self.known.get(one.pid) or psutil.Process(one.pid)
                self.known[one.pid] = process
                found.append(ObservedProcess(one.role, one.name, (process,)))
        return found

    def revive_store(self) -> None:
        """Do nothing: a Manager that is killed has lost what it stored."""


def run_local(name: str, workload: Workload, folder: Path, on_tick: OnTick) -> None:
    """Do ``workload`` on the transport ``name``. Each process writes a journal below ``folder``.

    Raises:
        DeadlinePassed, ProcessFailed: see MultiprocessingGroup.wait.
    """
    run: LocalRun | None = None

    def tick(group: MultiprocessingGroup) -> None:
        nonlocal run
        run = run or LocalRun(group)
        on_tick(run)

    with MultiprocessingGroup(workload, folder, start_method="forkserver", tick=tick) as group:
        run_lesson(name, group)


def start_fork_server(log: Path) -> None:
    """Start the process from which all later runs fork theirs in milliseconds: it has imported everything.

    They are not forked from this process: a fork can interrupt one of its threads at any point. The fork
    server ends with this process.

    Args:
        log: the file for what all these processes write to stderr.
    """
    multiprocessing.set_forkserver_preload(["baozi.__main__", "side_by_side.local_transport"])
    with _stderr_to(log):
        forkserver.ensure_running()


@contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@dataclass(frozen=True, slots=True)
class Lesson:
    """How the processes of a lesson are started. A new one is a new entry in ``LESSONS``."""

    module: ModuleType
    """The module with the lesson's ``producer`` and ``consumer``."""
    make: Callable[[MultiprocessingGroup], Any]
    """Creates what the processes share."""
    opened: Callable[[Any], AbstractContextManager[Any]] = nullcontext
    """Opens that in a process: yields an object with ``put`` and ``get``."""


def run_lesson(name: str, group: MultiprocessingGroup) -> None:
    """Do the group's workload with the lesson ``name``.

    Raises:
        DeadlinePassed, ProcessFailed: see :meth:`MultiprocessingGroup.wait`.
    """
    run_lesson_on(LESSONS[name].make(group), name, group)


def run_lesson_on(shared: Any, name: str, group: MultiprocessingGroup) -> None:
    """Do the group's workload with the lesson ``name`` on ``shared``, which has ``put`` and ``get``.

    Raises:
        DeadlinePassed, ProcessFailed: see :meth:`MultiprocessingGroup.wait`.
    """
    channel, workload = (name, shared), group.workload
    # The consumers of a JoinableQueue do not end by themselves.
    daemon = LESSONS[name].module is joinable_queue
    producers = [group.start(Role.PRODUCER, produce, channel, one) for one in workload.producers]
    consumers = [
        group.start(Role.CONSUMER, consume, channel, one, daemon=daemon) for one in workload.consumers
    ]
    group.wait(producers)
    if not daemon:
        # Its own process puts the None: a put can wait for ever, and the parent must be able to stop.
        group.start(Role.CLOSER, close, channel, "close")
        group.wait(consumers)


def produce(channel: tuple[str, Any], name: str, workload: Workload, journal: Journal) -> None:
    """Run the producer of a lesson, in its own process."""
    lesson = LESSONS[channel[0]]
    with lesson.opened(channel[1]) as queue:
        observed.produce(lesson.module, queue, name, workload, journal)


def consume(channel: tuple[str, Any], name: str, workload: Workload, journal: Journal) -> None:
    """Run the consumer of a lesson, in its own process."""
    lesson = LESSONS[channel[0]]
    with lesson.opened(channel[1]) as queue:
        observed.consume(lesson.module, queue, name, workload, journal)


def close(channel: tuple[str, Any], _name: str, workload: Workload, _journal: Journal) -> None:
    """Put one ``None`` for each consumer."""
    with LESSONS[channel[0]].opened(channel[1]) as queue:
        for _ in workload.consumers:
            queue.put(None)


def _shared_file(group: MultiprocessingGroup) -> SharedFile:
    group.folder.mkdir(parents=True, exist_ok=True)
    return SharedFile(group.folder, group.mp.Lock(), group.workload.capacity)


def _locked_pipe(group: MultiprocessingGroup) -> LockedPipe:
    return LockedPipe(group.workload.capacity or SLOTS, group.mp)


def _queue(group: MultiprocessingGroup) -> Any:
    return group.mp.Queue(group.workload.capacity or 0)  # 0: no bound


def _joinable_queue(group: MultiprocessingGroup) -> Any:
    return group.mp.JoinableQueue(group.workload.capacity or 0)


def _manager(group: MultiprocessingGroup) -> ManagerAddress:
    """Start the server; return its address."""
    address = ManagerAddress("127.0.0.1", 0, token_bytes(32))
    here, there = group.mp.Pipe(duplex=False)
    group.start(Role.STORE, _serve, (address, there), "manager")
    there.close()  # the server has its own end: if the server is killed, this end reads the end of the pipe
    return replace(address, port=cast(int, group.receive(here)))


def _serve(
    inside: "tuple[ManagerAddress, Connection[Any, Any]]", _name: str, workload: Workload, _journal: Journal
) -> None:
    address, parent = inside
    address.serve(workload.capacity, parent.send)


#: The lessons by name, in the course's order.
LESSONS: dict[str, Lesson] = {
    "file-lock": Lesson(sentinel_queue, _shared_file),
    "pipe-lock": Lesson(sentinel_queue, _locked_pipe),
    "queue": Lesson(sentinel_queue, _queue),
    "joinable-queue": Lesson(joinable_queue, _joinable_queue),
    "manager-queue": Lesson(sentinel_queue, _manager, ManagerAddress.opened),
}
