"""Runs a workload on a transport of ``local_mp``: the course's own producers and consumers."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path

import psutil

from baozi.workload import Workload
from side_by_side.lessons import run_lesson
from side_by_side.scene import Player, Tick
from side_by_side.stage import Stage


@dataclass(frozen=True)
class LocalScene:
    """A stage, as a fault and a meter see it."""

    stage: Stage
    known: dict[int, psutil.Process] = field(default_factory=dict)

    @property
    def workload(self) -> Workload:
        """The stage's."""
        return self.stage.workload

    @property
    def folder(self) -> Path:
        """The stage's."""
        return self.stage.folder

    def players(self) -> list[Player]:
        """One process each."""
        players = []
        for actor in self.stage.actors:
            with suppress(psutil.NoSuchProcess):
                process = self.known.get(actor.pid) or psutil.Process(actor.pid)
                self.known[actor.pid] = process
                players.append(Player(actor.role, actor.name, (process,)))
        return players

    def revive_store(self) -> None:
        """Nothing: what a Manager kept is gone with it."""


def run_local(name: str, workload: Workload, folder: Path, tick: Tick) -> None:
    """Do ``workload`` on the transport ``name``, with a journal a process below ``folder``.

    Raises:
        DeadlinePassed, ActorFailed: as Stage.wait says.
    """
    scene: LocalScene | None = None

    def on_tick(stage: Stage) -> None:
        nonlocal scene
        scene = scene or LocalScene(stage)
        tick(scene)

    with Stage(workload, folder, start_method="forkserver", tick=on_tick) as stage:
        run_lesson(name, stage)


def start_fork_server(log: Path) -> None:
    """Have the processes of all later runs forked from one that has imported everything, within milliseconds.

    Not from this one, whose threads a fork would leave in the middle of something. Ends with this process.

    Args:
        log: what all these processes say on stderr goes there.
    """
    multiprocessing.set_forkserver_preload(["baozi.__main__", "side_by_side.lessons"])
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
