"""The transports that ``baozi compare`` and ``baozi gather`` know, and what "accepted" means on each."""

from dataclasses import dataclass
from enum import StrEnum

from baozi.language import Sentence

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
    what: str
    """What it is, in one sentence."""
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


_BUFFERED = Sentence("it is in a buffer of the producer's own process")
_CONFIRMED = Sentence("RabbitMQ has confirmed it: it is in a quorum queue, on the disk")

_ALL = (
    Transport(
        "file-lock",
        Program.LOCAL,
        Sentence("A file and a lock; consumers read it again and again."),
        Sentence("it is in the file, which is not synced to the disk"),
    ),
    Transport(
        "pipe-lock",
        Program.LOCAL,
        Sentence("A pipe with a lock at each end."),
        Sentence("it is in the kernel's pipe"),
    ),
    Transport(
        "queue",
        Program.LOCAL,
        Sentence(
            "multiprocessing.Queue: a pipe, locks, and a thread in each producer that writes to the pipe."
        ),
        _BUFFERED,
    ),
    Transport(
        "joinable-queue",
        Program.LOCAL,
        Sentence("multiprocessing.JoinableQueue: a Queue that also counts what has been eaten."),
        _BUFFERED,
    ),
    Transport(
        "manager-queue",
        Program.LOCAL,
        Sentence("A queue in the process of a multiprocessing Manager, which others reach over TCP."),
        Sentence("it is in the memory of the Manager's process"),
    ),
    Transport(
        "rabbitmq-queue",
        Program.QUEUE,
        Sentence("remote_mp.JoinableQueue: multiprocessing's interface to a queue in RabbitMQ."),
        _CONFIRMED,
    ),
    Transport(
        "celery",
        Program.CELERY,
        Sentence("Celery on RabbitMQ, with a ledger: each baozi is one message and one transaction."),
        _CONFIRMED,
    ),
    Transport(
        "celery-trays",
        Program.CELERY,
        Sentence("Celery on RabbitMQ, with a ledger: up to 100 messages are one transaction."),
        _CONFIRMED,
        tray=100,
    ),
)

TRANSPORTS: dict[str, Transport] = {transport.name: transport for transport in _ALL}
