"""What the conformance suite needs of a transport. A further one is an adapter here, in ``ADAPTERS``."""

import atexit
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from baozi.broker import temporary as temporary_broker
from baozi.broker.temporary import TemporaryBroker
from baozi.workload import Workload
from side_by_side.celery_transport import run_celery
from side_by_side.local_transport import LESSONS, run_lesson
from side_by_side.multiprocessing_group import MultiprocessingGroup
from side_by_side.remote_mp_transport import run_queue
from tests.requirements import need


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
        """Run it in a group of processes."""
        with MultiprocessingGroup(workload, folder, start_method="spawn") as group:
            run_lesson(self.name, group)


@dataclass(frozen=True)
class OnRemoteQueue:
    """The course's functions on a queue of remote_mp's, whose bound is exact."""

    name: str = "rabbitmq-queue"
    slack: int = 0

    def run(self, workload: Workload, folder: Path) -> None:
        """Run it in a group of processes, on its own virtual host."""
        need(temporary_broker.can_run(), "no broker can be run here")
        run_queue(_broker(), workload, folder, lambda _: None, start_method="spawn")


@dataclass(frozen=True)
class OnCelery:
    """The main job's own worker and producer, on a broker that all runs share."""

    name: str = "celery"
    # RabbitMQ's bound is soft: with 3 it takes a fourth. And each worker has one in hand and one prefetched.
    slack: int = 3

    def run(self, workload: Workload, folder: Path) -> None:
        """Run it on a virtual host of its own, and stop the workers as an operator would."""
        need(temporary_broker.can_run(), "no broker can be run here")
        run_celery(_broker(), workload, folder, lambda _: None, clean_stop=True)


@cache
def _broker() -> TemporaryBroker:
    """Started by the first run that needs one, and stopped with the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(temporary_broker.temporary_broker())


ADAPTERS: tuple[Adapter, ...] = (*(Local(name) for name in LESSONS), OnRemoteQueue(), OnCelery())
