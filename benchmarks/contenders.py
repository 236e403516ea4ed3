"""The list of contenders: each library with its commands, and the guarantee under which it is measured.

Rates are only comparable if the guarantees are known, so the tables show both.
"""

from dataclasses import dataclass, replace

from benchmarks.bench import Bench

_PEERS = "benchmarks.peers"
#: Worker processes of each contender, on two cores.
PROCESSES = 2
#: The largest batch of Baozi's worker.
_TRAY = 100


@dataclass(frozen=True, slots=True)
class PublishingContender:
    """A publisher that is measured."""

    name: str
    promises: str
    """The guarantee for a message that counts as published."""
    command: tuple[str, ...]
    """The module and its arguments, after ``python -m``."""
    confirm: bool = False
    """Whether it uses publisher confirms."""
    tray: int = 1
    """How many baozi one message has."""
    environment: tuple[tuple[str, str], ...] = ()
    """Further environment variables."""

    def arguments(self, **limits: float) -> list[str]:
        """Return the command with the options ``--seconds``, ``--count`` or ``--rate``."""
        options = [word for name, value in limits.items() for word in (f"--{name}", str(value))]
        return [*self.command, *options, *(["--tray", str(self.tray)] if self.tray > 1 else [])]

    def bench(self, url: str) -> Bench:
        """Return the settings for its processes."""
        return Bench(url, self.confirm)


@dataclass(frozen=True, slots=True)
class Eater:
    """A consumer that is measured, with the publisher that fills its queue."""

    name: str
    promises: str
    """The guarantee for a baozi that counts as eaten."""
    worker: tuple[str, ...]
    """The module and its arguments, after ``python -m``."""
    filled_by: PublishingContender | None
    """The publisher. None if the command also publishes."""
    backlog: int
    """How many baozi to eat: work for some seconds."""
    processes: int = 1
    """How many processes to start. ``{number}`` in the command is the number of the process."""
    ours: bool = False
    """Whether the eaten baozi are counted in Baozi's ledger. Otherwise they are counted in the tally."""
    environment: tuple[tuple[str, str], ...] = ()
    """Further environment variables."""
    confirm: bool = False
    """Whether a command that also publishes uses publisher confirms."""


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
    """Return Baozi's worker.

    Args:
        processes: the number of pool processes.
        tray: the largest batch.
        events: whether it sends Celery's task events. The peers do not send them by default.
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


#: Measured end to end: publishing and eating at the same time.
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
#: Measured for latency: each eats alone, at a fixed rate, on an idle machine.
AT_A_RATE = (ours(), EATERS[1], EATERS[4])


def _growing(eater: Eater, processes: int) -> Eater:
    """Return ``eater`` with so many pool ``processes``."""
    worker = tuple(str(processes) if it == str(PROCESSES) else it for it in eater.worker)
    return replace(eater, name=f"{eater.name}, processes: {processes}", worker=worker)


#: Measured with 1, 2 and 4 processes; Baozi also with and without batches.
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
#: Baozi's publisher with different numbers of unconfirmed messages.
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
