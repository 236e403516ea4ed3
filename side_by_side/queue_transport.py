"""Runs a workload on ``remote_mp``: the course's own functions for a JoinableQueue, on RabbitMQ's."""

import time
from itertools import count
from pathlib import Path

import psutil

from baozi.workload import Workload
from remote_mp import JoinableQueue
from side_by_side import sums
from side_by_side.lessons import run_lesson_on
from side_by_side.local_transport import LocalScene
from side_by_side.own_broker import OwnBroker
from side_by_side.scene import Player, Tick
from side_by_side.stage import Role, Stage

#: Seconds that a new quorum queue is left alone. RabbitMQ has a queue's name written to the disk within three
#: (Erlang's dets); killed before, it has the messages and does not know whose they are (docs/reliability.md).
_REGISTERED = 3.5
_virtual_hosts = count()


class QueueScene:
    """A stage and a broker, as a fault and a meter see them."""

    def __init__(self, stage: Stage, broker: OwnBroker) -> None:
        """Take both."""
        self.workload = stage.workload
        self.folder = stage.folder
        self._actors = LocalScene(stage)
        self._broker = broker
        self._store: tuple[psutil.Process, ...] = tuple(broker.processes())

    def players(self) -> list[Player]:
        """One process each, and the broker."""
        return [*self._actors.players(), Player(Role.STORE, "RabbitMQ", self._store)]

    def revive_store(self) -> None:
        """Start the broker again, on its data and at its address."""
        self._broker.revive()
        self._store = tuple(self._broker.processes())


def run_queue(
    broker: OwnBroker, workload: Workload, folder: Path, tick: Tick, *, start_method: str = "forkserver"
) -> None:
    """Do ``workload`` on a virtual host of its own, with a journal a process below ``folder``.

    It ends when all accepted is eaten: what a killed producer had put is still in the queue when the others
    have joined it.

    Args:
        broker: where.
        workload: what is to be done.
        folder: this run's own.
        tick: called all the while.
        start_method: of the processes, as ``multiprocessing`` has it.

    Raises:
        DeadlinePassed, ActorFailed: as Stage.wait says.
        BrokerAway: the broker does not answer.
    """
    scene: QueueScene | None = None

    def on_tick(stage: Stage) -> None:
        nonlocal scene
        scene = scene or QueueScene(stage, broker)
        tick(scene)

    def all_eaten() -> bool:
        return not sums.count(line.entry for line in sums.read_lines(folder)).lost

    with (
        broker.virtual_host(f"queue-{next(_virtual_hosts)}") as url,
        JoinableQueue[object](workload.capacity or 0, name="baozi", url=url) as queue,
        Stage(workload, folder, start_method=start_method, tick=on_tick) as stage,
    ):
        queue.qsize()  # declares it
        begin_at = time.monotonic() + _REGISTERED
        stage.wait_until(lambda: time.monotonic() >= begin_at, "the queue to be registered")
        run_lesson_on(queue, "joinable-queue", stage)
        stage.wait_until(all_eaten, "all that was accepted to be eaten")
