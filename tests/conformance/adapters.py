"""What the conformance suite needs of a transport. A further one is an adapter here, in ``ADAPTERS``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from baozi.workload import Workload
from local_mp.stage import Stage
from local_mp.transports import TRANSPORTS


class Adapter(Protocol):
    """Runs a workload on one transport."""

    @property
    def name(self) -> str:
        """The transport's name."""

    @property
    def slack(self) -> int:
        """How many more than its capacity it may hold: a soft bound, or what consumers prefetch."""

    def run(self, workload: Workload, folder: Path) -> None:
        """Do all of it, stop cleanly, and leave a journal a process: ``folder/ROLE/NAME.journal``."""


@dataclass(frozen=True)
class Local:
    """A transport of local_mp. Processes are spawned: it works in a test run that has threads."""

    name: str
    slack: int = 0

    def run(self, workload: Workload, folder: Path) -> None:
        """Run it on a stage of its own."""
        with Stage(workload, folder, quiet=True, start_method="spawn") as stage:
            TRANSPORTS[self.name].run(stage)


ADAPTERS: tuple[Adapter, ...] = tuple(Local(name) for name in TRANSPORTS)
