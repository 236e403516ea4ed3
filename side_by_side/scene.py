"""What a fault and a meter see of a run, whatever its transport: who plays which part, and the journals."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from baozi.workload import Workload
from side_by_side.stage import Role


@dataclass(frozen=True, slots=True)
class Player:
    """Somebody at work: one process, or a worker with its pool, or a broker with its own."""

    role: Role
    name: str
    processes: tuple[psutil.Process, ...]


class Scene(Protocol):
    """A run that is going on."""

    @property
    def workload(self) -> Workload:
        """What is being done."""

    @property
    def folder(self) -> Path:
        """Where the journals are, at any depth."""

    def players(self) -> list[Player]:
        """Return everybody whose processes have not been seen to end."""

    def revive_store(self) -> None:
        """Start the killed store again on its data, if it has any; the run goes on.

        Raises:
            BaoziError: it does not start.
        """


#: Called some fifty times a second while a run goes on; what it raises ends the run.
Tick = Callable[[Scene], None]
