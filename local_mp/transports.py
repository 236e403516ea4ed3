"""The local transports by name, each with the course's own workload for it."""

from typing import Protocol

from baozi.workload import Workload
from local_mp import file_lock, joinable_queue, manager_queue, pipe_lock, sentinel_queue
from local_mp.stage import Stage


class Transport(Protocol):
    """What the module of a transport offers."""

    COURSE: Workload
    """What the course has it do."""

    def run(self, stage: Stage) -> None:
        """Do the stage's workload; every process is started by, and waited for on, the stage."""


#: In the course's order.
TRANSPORTS: dict[str, Transport] = {
    "file-lock": file_lock,
    "pipe-lock": pipe_lock,
    "queue": sentinel_queue,
    "joinable-queue": joinable_queue,
    "manager-queue": manager_queue,
}
