"""The transports by name: what "accepted" means on each, and what each is expected to make of each fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from side_by_side.faults.moments import Fault
from side_by_side.results import Verdict

#: Two eat slowly, so that somebody has a baozi in hand.
_EATING: dict[str, object] = {
    "producers": ("alex",),
    "per_producer": 5,
    "make_seconds": 0.05,
    "eat_seconds": 0.3,
}
#: Baozi come slowly, so that those who eat wait most of the time.
_WAITING: dict[str, object] = {
    "producers": ("alex",),
    "per_producer": 8,
    "make_seconds": 0.25,
    "eat_seconds": 0.05,
}
#: There is a pause after each put, and the victim is killed in it.
_MAKING: dict[str, object] = {
    "producers": ("alex", "peiqi"),
    "per_producer": 8,
    "make_seconds": 0.2,
    "eat_seconds": 0.0,
}
#: More than a Queue's pipe holds, put at once: the most of it is still in the producer, whose thread waits,
#: the pipe's lock in hand, to write more. Trays, so that it seldom does anything but wait.
_BURST: dict[str, object] = {
    "producers": ("alex",),
    "per_producer": 4000,
    "make_seconds": 0.0,
    "eat_seconds": 0.002,
    "tray": 40,
}
#: Two of them: the one that is left joins a queue that still counts what the other had put.
_BURST_OF_TWO = _BURST | {"producers": ("alex", "peiqi"), "per_producer": 2000}
#: More is made than can be eaten meanwhile, so that the store has something to lose.
_KEEPING: dict[str, object] = {
    "producers": ("alex", "peiqi"),
    "per_producer": 20,
    "make_seconds": 0.05,
    "eat_seconds": 0.1,
}

#: Seconds that a fault's run may take in all, and without an event before it is called wedged. Of local
#: processes nothing takes more than a second; a broker needs ten to come back, its clients some to notice.
LOCAL_LIMITS = (30.0, 1.5)
BROKER_LIMITS = (90.0, 45.0)


class Program(StrEnum):
    """Whose program does the work."""

    LOCAL = "local_mp"
    QUEUE = "local_mp on remote_mp"
    CELERY = "celery"


@dataclass(frozen=True, slots=True)
class Case:
    """A fault on one transport: the work during which it is injected, and what is expected to come of it."""

    expected: Verdict
    work: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Transport:
    """What a comparison must know of a transport. A further one is an entry in ``TRANSPORTS``."""

    name: str
    program: Program
    accepted_means: str
    cases: Mapping[Fault, Case]
    """By fault; what has no store process has no ``kill-store``."""
    tray: int = 1
    """Baozi that a worker takes at once at the least, whatever the workload says."""

    @property
    def is_local(self) -> bool:
        """Whether it needs no broker."""
        return self.program is Program.LOCAL

    @property
    def limits(self) -> tuple[float, float]:
        """Deadline and patience, in seconds, of a run with a fault."""
        return LOCAL_LIMITS if self.is_local else BROKER_LIMITS


def _cases(
    busy: Verdict,
    idle: Verdict,
    producer: Verdict,
    store: Verdict | None = None,
    making: Mapping[str, object] = _MAKING,
) -> dict[Fault, Case]:
    cases = {
        Fault.KILL_BUSY_CONSUMER: Case(busy, _EATING),
        Fault.KILL_IDLE_CONSUMER: Case(idle, _WAITING),
        Fault.KILL_PRODUCER: Case(producer, making),
    }
    return cases | ({Fault.KILL_STORE: Case(store, _KEEPING)} if store else {})


_CONFIRMED = "RabbitMQ has confirmed it: it is in a quorum queue, on the disk"

_ALL = (
    Transport(
        "file-lock",
        Program.LOCAL,
        "it is in the file, which is not synced to the disk",
        # A consumer that looks now and then holds no lock while it naps.
        _cases(Verdict.LOST, Verdict.SOUND, Verdict.SOUND),
    ),
    Transport(
        "pipe-lock",
        Program.LOCAL,
        "it is in the kernel's pipe",
        _cases(Verdict.LOST, Verdict.WEDGED, Verdict.SOUND),
    ),
    Transport(
        "queue",
        Program.LOCAL,
        "it is in a buffer of the producer's own process",
        _cases(Verdict.LOST, Verdict.WEDGED, Verdict.WEDGED, making=_BURST),
    ),
    Transport(
        "joinable-queue",
        Program.LOCAL,
        "it is in a buffer of the producer's own process",
        _cases(Verdict.WEDGED, Verdict.WEDGED, Verdict.WEDGED, making=_BURST_OF_TWO),
    ),
    Transport(
        "manager-queue",
        Program.LOCAL,
        "it is in the memory of the Manager's process",
        # The server takes the next one out for a client that was killed in get.
        _cases(Verdict.LOST, Verdict.LOST, Verdict.SOUND, Verdict.LOST),
    ),
    Transport(
        "rabbitmq-queue",
        Program.QUEUE,
        _CONFIRMED,
        # What is in hand when the broker is killed comes again: there is no ledger that knows it.
        _cases(Verdict.SOUND, Verdict.SOUND, Verdict.SOUND, Verdict.DUPLICATED),
    ),
    Transport(
        "celery",
        Program.CELERY,
        _CONFIRMED,
        _cases(Verdict.SOUND, Verdict.SOUND, Verdict.SOUND, Verdict.SOUND),
    ),
    Transport(
        "celery-trays",
        Program.CELERY,
        _CONFIRMED,
        _cases(Verdict.SOUND, Verdict.SOUND, Verdict.SOUND, Verdict.SOUND),
        tray=100,
    ),
)

TRANSPORTS: dict[str, Transport] = {transport.name: transport for transport in _ALL}
