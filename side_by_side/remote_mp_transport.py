"""Runs a workload on ``remote_mp``: the course's functions for a JoinableQueue, on a queue in RabbitMQ."""

import time
from itertools import count
from pathlib import Path

import psutil

from baozi.broker.temporary import TemporaryBroker
from baozi.workload import Workload
from remote_mp import JoinableQueue
from side_by_side import journal_analysis
from side_by_side.local_transport import LocalRun, run_lesson_on
from side_by_side.multiprocessing_group import MultiprocessingGroup, Role
from side_by_side.observed_run import ObservedProcess, OnTick

#: Seconds for which a new quorum queue is left alone. RabbitMQ writes a queue's name to the disk within three
#: seconds (Erlang's dets). If it is killed before, it has the messages, but not their queue: see
#: docs/reliability.md.
_REGISTERED = 3.5
_virtual_hosts = count()


class RemoteQueueRun:
    """A run on RabbitMQ as faults and the resource meter see it: the group's processes and the broker."""

    def __init__(self, group: MultiprocessingGroup, broker: TemporaryBroker) -> None:
        """Observe the processes of ``group``, and ``broker``."""
        self.workload = group.workload
        self.folder = group.folder
        self._local = LocalRun(group)
        self._broker = broker
        self._store: tuple[psutil.Process, ...] = tuple(broker.processes())

    def processes(self) -> list[ObservedProcess]:
        """Return the group's processes and the broker."""
        return [*self._local.processes(), ObservedProcess(Role.STORE, "RabbitMQ", self._store)]

    def revive_store(self) -> None:
        """Start the broker again, on its data and at its address."""
        self._broker.revive()
        self._store = tuple(self._broker.processes())


def run_queue(
    broker: TemporaryBroker,
    workload: Workload,
    folder: Path,
    on_tick: OnTick,
    *,
    start_method: str = "forkserver",
) -> None:
    """Do ``workload`` on a new virtual host. Each process writes a journal below ``folder``.

    The run ends when all accepted baozi are eaten: what a killed producer has put is still in the queue when
    the other producers have joined it.

    Args:
        broker: the broker.
        workload: what to do.
        folder: the folder of this run.
        on_tick: called about fifty times a second.
        start_method: how ``multiprocessing`` starts the processes.

    Raises:
        DeadlinePassed, ProcessFailed: see MultiprocessingGroup.wait.
        BrokerAway: the broker does not answer.
    """
    run: RemoteQueueRun | None = None

    def tick(group: MultiprocessingGroup) -> None:
        nonlocal run
        run = run or RemoteQueueRun(group, broker)
        on_tick(run)

    def all_eaten() -> bool:
        lines = journal_analysis.read_lines(folder)
        return not journal_analysis.count(line.entry for line in lines).lost

    with (
        broker.virtual_host(f"queue-{next(_virtual_hosts)}") as url,
        JoinableQueue[object](workload.capacity or 0, name="baozi", url=url) as queue,
        MultiprocessingGroup(workload, folder, start_method=start_method, tick=tick) as group,
    ):
        queue.qsize()  # declares it
        begin_at = time.monotonic() + _REGISTERED
        group.wait_until(lambda: time.monotonic() >= begin_at, "the queue to be registered")
        run_lesson_on(queue, "joinable-queue", group)
        group.wait_until(all_eaten, "all that was accepted to be eaten")
