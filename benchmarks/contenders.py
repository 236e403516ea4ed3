"""Who is measured, and what each promises: a rate says nothing beside another that promises more."""

from dataclasses import dataclass, replace

from benchmarks.bench import Bench

_PEERS = "benchmarks.peers"
#: Worker processes of everybody, on two cores.
PROCESSES = 2
#: Baozi on a worker's tray at the most, where it eats by trays.
_TRAY = 100


@dataclass(frozen=True, slots=True)
class PublishingContender:
    """One way to publish."""

    name: str
    promises: str
    """What holds when it says that it is done."""
    command: tuple[str, ...]
    """After ``python -m``."""
    confirm: bool = False
    tray: int = 1
    environment: tuple[tuple[str, str], ...] = ()

    def arguments(self, **limits: float) -> list[str]:
        """Return the command with ``--seconds``, ``--count`` or ``--rate``."""
        options = [word for name, value in limits.items() for word in (f"--{name}", str(value))]
        return [*self.command, *options, *(["--tray", str(self.tray)] if self.tray > 1 else [])]

    def bench(self, url: str) -> Bench:
        """Return what its processes are told."""
        return Bench(url, self.confirm)


@dataclass(frozen=True, slots=True)
class Eater:
    """One way to eat, and the publisher that fills its queue."""

    name: str
    promises: str
    """What holds of a baozi when it counts as eaten."""
    worker: tuple[str, ...]
    filled_by: PublishingContender | None
    """None: the command does that as well."""
    backlog: int
    """Baozi to eat: some seconds' work."""
    processes: int = 1
    """How many to start; most start their own pool. ``{number}`` in the command is each one's own."""
    ours: bool = False
    """Whether the ledger tells what is eaten, and not the tally."""
    environment: tuple[tuple[str, str], ...] = ()
    confirm: bool = False
    """Whether its own publisher, where it has one, asks for confirms."""


_OURS = f"{_PEERS}.baozi_peer"
_CELERY = ("celery", "--quiet", "-A", f"{_PEERS}.celery_peer", "worker", "--loglevel", "WARNING")
_ACKNOWLEDGED = "acknowledged after it is eaten; written down nowhere"
_IN_MEMORY = "in memory; gone with its process"
_LEDGER = "acknowledged after it is in the ledger, once"
_UNROUTED = "the broker has it on its disk, if it was routed"
_ON_THE_DISK = "the broker has it on its disk, routed"

OURS = PublishingContender("baozi", _ON_THE_DISK, (_OURS, "ahead"))
OURS_ALONE = PublishingContender("baozi, one at a time", _ON_THE_DISK, (_OURS, "alone"))
OURS_IN_TRAYS = PublishingContender("baozi, trays of 100", _ON_THE_DISK, OURS.command, tray=100)
CELERY = PublishingContender("celery .delay()", "the socket took it", (f"{_PEERS}.celery_peer",))
CELERY_CONFIRMED = PublishingContender(
    "celery .delay(), confirmed",
    _UNROUTED,
    CELERY.command,
    confirm=True,
)
DRAMATIQ = PublishingContender("dramatiq", "the socket took it", (f"{_PEERS}.dramatiq_peer",))
DRAMATIQ_CONFIRMED = PublishingContender("dramatiq, confirmed", _ON_THE_DISK, DRAMATIQ.command, confirm=True)
TASKIQ = PublishingContender("taskiq, confirmed", _ON_THE_DISK, (f"{_PEERS}.taskiq_peer",))
PIKA = PublishingContender("pika", "the socket took it", (f"{_PEERS}.pika_peer", "publish"))
PIKA_CONFIRMED = PublishingContender("pika, confirmed", _UNROUTED, PIKA.command, True)
AIO_PIKA = PublishingContender("aio-pika, confirmed", _UNROUTED, (f"{_PEERS}.aio_pika_peer", "publish"))

PUBLISHERS = (
    OURS,
    OURS_ALONE,
    OURS_IN_TRAYS,
    CELERY,
    CELERY_CONFIRMED,
    DRAMATIQ,
    DRAMATIQ_CONFIRMED,
    TASKIQ,
    PIKA,
    PIKA_CONFIRMED,
    AIO_PIKA,
)


def ours(processes: int = PROCESSES, tray: int = _TRAY, *, events: bool = False) -> Eater:
    """Return our worker with so many pool ``processes``, and so many baozi on a ``tray`` at the most.

    Without ``events`` of tasks, which no peer sends either unless told.
    """
    backlog = 15_000 if tray == 1 else 40_000
    return Eater(
        "baozi",
        _LEDGER,
        ("celery", "--quiet", "-A", "tasks", "worker", "--loglevel", "WARNING", "-c", str(processes)),
        OURS,
        backlog,
        ours=True,
        environment=(("BAOZI_TRAY", str(tray)), ("BAOZI_TASK_EVENTS", str(events))),
    )


EATERS = (
    ours(),
    Eater("celery prefork", _ACKNOWLEDGED, (*_CELERY, "-c", str(PROCESSES)), CELERY, 6_000),
    Eater(
        "celery solo",
        _ACKNOWLEDGED,
        (*_CELERY, "-P", "solo", "-n", "solo{number}@%h"),
        CELERY,
        6_000,
        processes=PROCESSES,
    ),
    Eater("celery threads", _ACKNOWLEDGED, (*_CELERY, "-P", "threads", "-c", "8"), CELERY, 6_000),
    Eater(
        "dramatiq",
        _ACKNOWLEDGED,
        ("dramatiq", f"{_PEERS}.dramatiq_peer", "--processes", str(PROCESSES), "--threads", "8"),
        DRAMATIQ,
        20_000,
    ),
    Eater(
        "taskiq",
        _ACKNOWLEDGED,
        ("taskiq", "worker", f"{_PEERS}.taskiq_peer:broker", "--workers", str(PROCESSES)),
        TASKIQ,
        6_000,
    ),
    Eater("pika", _ACKNOWLEDGED, (f"{_PEERS}.pika_peer", "eat"), PIKA, 20_000, processes=PROCESSES),
    Eater("aio-pika", _ACKNOWLEDGED, (f"{_PEERS}.aio_pika_peer", "eat"), PIKA, 20_000, processes=PROCESSES),
)


def _in_memory(kind: str, tray: int, backlog: int) -> Eater:
    name = {"queue": "multiprocessing.Queue", "manager": "multiprocessing Manager"}[kind]
    command = (f"{_PEERS}.multiprocessing_peer", kind, "--count", str(backlog), "--tray", str(tray))
    trays = f", trays of {tray}" if tray > 1 else ""
    return Eater(f"{name}{trays}", _IN_MEMORY, command, None, backlog)


#: End to end, while it is published.
BOTH = (
    ours(),
    replace(ours(), name=OURS_IN_TRAYS.name, filled_by=OURS_IN_TRAYS, backlog=600_000),
    _in_memory("queue", 1, 60_000),
    _in_memory("queue", 100, 1_000_000),
    _in_memory("manager", 1, 15_000),
    _in_memory("manager", 100, 300_000),
    EATERS[1],
    EATERS[4],
)
#: Who eats at a fixed rate, each alone on an idle machine.
AT_A_RATE = (ours(), EATERS[1], EATERS[4])


def _growing(eater: Eater, processes: int) -> Eater:
    """One that starts its own pool, with so many ``processes``."""
    worker = tuple(str(processes) if it == str(PROCESSES) else it for it in eater.worker)
    return replace(eater, name=f"{eater.name}, processes: {processes}", worker=worker)


#: How each grows with its processes; ours also with a worker's tray.
GROWTH = (
    *(
        replace(
            ours(processes, tray),
            name=f"baozi, processes: {processes}, {'one at a time' if tray == 1 else 'trays'}",
        )
        for tray in (1, _TRAY)
        for processes in (1, 2, 4)
    ),
    *(_growing(eater, processes) for eater in (EATERS[1], EATERS[4]) for processes in (1, 2, 4)),
)


def _queue(name: str, promises: str, kind: str, backlog: int, *, confirm: bool = False) -> Eater:
    command = (f"{_PEERS}.queue_peer", kind, "--count", str(backlog))
    return Eater(name, promises, command, None, backlog, confirm=confirm)


#: Queues with put and get, one producer and one consumer.
QUEUES = (
    _queue(
        "remote_mp.JoinableQueue",
        "acknowledged after task_done; on the broker's disk when put, but for a window of 1,000",
        "remote_mp",
        300_000,
    ),
    _queue(
        "remote_mp.JoinableQueue, one at a time",
        "acknowledged after task_done; on the broker's disk when put returns",
        "remote_mp-alone",
        5_000,
    ),
    _queue("kombu SimpleQueue", "acknowledged; the socket took it when put returns", "simple-queue", 40_000),
    _queue("kombu SimpleQueue, confirmed", f"acknowledged; {_UNROUTED}", "simple-queue", 5_000, confirm=True),
    _queue("multiprocessing.JoinableQueue", _IN_MEMORY, "multiprocessing", 150_000),
    _queue("multiprocessing Manager's JoinableQueue", _IN_MEMORY, "manager", 40_000),
)
#: How many of ours may be on the way to the broker, put and not yet confirmed.
WINDOWS = tuple(
    replace(OURS, name=f"window {window:,}", environment=(("BAOZI_WINDOW", str(window)),))
    for window in (1, 10, 100, 1_000, 10_000)
)


def _prefetching(trays: int) -> Eater:
    # Celery multiplies by the number of pool processes.
    options = ("--prefetch-multiplier", str(trays * _TRAY))
    return replace(ours(), name=f"prefetch of {trays} trays", worker=(*ours().worker, *options))


def _pooled(pool: str, processes: int) -> Eater:
    worker = (*ours(processes).worker, "-P", pool)
    return replace(ours(), name=f"pool {pool}", worker=worker)


#: What a worker can be told: its tray, its events, how much it fetches ahead, its pool.
KNOBS = (
    *(replace(ours(tray=tray), name=f"tray {tray:,}") for tray in (1, 10, 100, 1_000)),
    replace(ours(events=True), name="task events on"),
    *(_prefetching(trays) for trays in (1, 2, 4)),
    _pooled("prefork", PROCESSES),
    _pooled("threads", PROCESSES),
    _pooled("solo", 1),
)
#: Messages in the queue while memory is looked at.
BACKLOGS = (10_000, 1_000_000)
