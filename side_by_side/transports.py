"""The transports that ``baozi compare`` and ``baozi gather`` know, and what "accepted" means on each."""

from dataclasses import dataclass
from enum import StrEnum

#: The deadline of a run with a fault, and how long nothing may happen before it counts as wedged, in seconds.
#: Between local processes nothing takes longer than a second. A broker needs ten seconds to start again, and
#: its clients some to notice.
LOCAL_LIMITS = (30.0, 1.5)
BROKER_LIMITS = (90.0, 45.0)


class Program(StrEnum):
    """The program that does the work."""

    LOCAL = "local_mp"
    QUEUE = "local_mp on remote_mp"
    CELERY = "celery"


@dataclass(frozen=True, slots=True)
class Transport:
    """A transport of a comparison. A new one is a new entry in ``TRANSPORTS``."""

    name: str
    program: Program
    accepted_means: str
    """What holds for a baozi when its put has returned."""
    tray: int = 1
    """Baozi that a worker takes at once, if the workload does not ask for more."""

    @property
    def is_local(self) -> bool:
        """Whether it needs no broker."""
        return self.program is Program.LOCAL

    @property
    def limits(self) -> tuple[float, float]:
        """Deadline and patience, in seconds, of a run with a fault."""
        return LOCAL_LIMITS if self.is_local else BROKER_LIMITS


_BUFFERED = "it is in a buffer of the producer's own process"
_CONFIRMED = "RabbitMQ has confirmed it: it is in a quorum queue, on the disk"

_ALL = (
    Transport("file-lock", Program.LOCAL, "it is in the file, which is not synced to the disk"),
    Transport("pipe-lock", Program.LOCAL, "it is in the kernel's pipe"),
    Transport("queue", Program.LOCAL, _BUFFERED),
    Transport("joinable-queue", Program.LOCAL, _BUFFERED),
    Transport("manager-queue", Program.LOCAL, "it is in the memory of the Manager's process"),
    Transport("rabbitmq-queue", Program.QUEUE, _CONFIRMED),
    Transport("celery", Program.CELERY, _CONFIRMED),
    Transport("celery-trays", Program.CELERY, _CONFIRMED, tray=100),
)

TRANSPORTS: dict[str, Transport] = {transport.name: transport for transport in _ALL}
