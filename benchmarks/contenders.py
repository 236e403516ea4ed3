"""The list of contenders: each library with its commands, and the guarantee under which it is measured.

Rates are only comparable if the guarantees are known, so the tables show both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

_PEERS = "benchmarks.peers"
#: Worker processes of each contender, on two cores.
PROCESSES = 2
#: The databases of a ledger.
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
#: The variable that says what a task does, not how the worker is set up.
_TASK = "BAOZI_EAT_SECONDS"
_DEFAULTS: Mapping[str, str] = MappingProxyType({})


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
    environment: Mapping[str, str] = field(default_factory=lambda: _DEFAULTS)
    """Further environment variables."""
    how: str = ""
    """The settings, if they are not those of the environment."""
    database: str | None = None
    """The database whose URL it needs."""

    @property
    def settings(self) -> str:
        """The settings, for the tables."""
        return self.how or _settings(self.environment)

    def arguments(self, **limits: float) -> list[str]:
        """Return the command with the options ``--seconds``, ``--count`` or ``--rate``."""
        options = [word for name, value in limits.items() for word in (f"--{name}", str(value))]
        return [*self.command, *options, *(["--tray", str(self.tray)] if self.tray > 1 else [])]


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
    """How many processes to start. In the command, ``{number}`` is the number of the process, ``{count}`` how
    many baozi to put."""
    environment: Mapping[str, str] = field(default_factory=lambda: _DEFAULTS)
    """Further environment variables."""
    confirm: bool = False
    """Whether a command that also publishes uses publisher confirms."""
    task_seconds: float = 0
    """How long each task sleeps."""
    database: str | None = None
    """The database of its ledger, or of the peer's own table."""
    table: str | None = None
    """The table whose rows are counted. None: the tally is read."""
    audited: bool = False
    """Whether it has a ledger, which is audited."""
    flower: bool = False
    """Whether Flower receives its events meanwhile."""
    how: str = ""
    """The settings, if they are not those of the environment."""

    @property
    def settings(self) -> str:
        """The settings, for the tables."""
        return self.how or _settings(self.environment)

    @property
    def backlog_for_its_tasks(self) -> int:
        """How many baozi to eat, but at most what the tasks' own time allows in four seconds."""
        return (
            self.backlog if not self.task_seconds else min(self.backlog, round(_EATING / self.task_seconds))
        )


def _settings(environment: Mapping[str, str]) -> str:
    told = {name: value for name, value in environment.items() if name != _TASK}
    return ", ".join(f"{name}={value}" for name, value in told.items()) or "default settings"


#: Seconds of work of all processes together in which a rate is measured.
_EATING = 4.0 * PROCESSES
_OURS = f"{_PEERS}.baozi_peer"
_CELERY = ("celery", "--quiet", "-A", f"{_PEERS}.celery_peer", "worker", "--loglevel", "WARNING")
_ACKNOWLEDGED = "acknowledged after it is eaten; written down nowhere"
_IN_MEMORY = "in memory; gone with its process"
_LATE = "late acknowledgement, no result backend"
_WINDOW = "window of 1,000"
_LEDGER = "acknowledged after it is in the ledger, once"
_UNROUTED = "the broker has it on its disk, if it was routed"
_ON_THE_DISK = "the broker has it on its disk, routed"

OURS = PublishingContender("baozi", _ON_THE_DISK, (_OURS, "ahead"))
OURS_ALONE = PublishingContender(
    "baozi, one at a time", _ON_THE_DISK, (_OURS, "alone"), how="each put waits for its confirm"
)
OURS_IN_TRAYS = PublishingContender(
    "baozi, trays of 100", _ON_THE_DISK, OURS.command, tray=100, how="100 baozi in one message"
)
C_CLIENT = PublishingContender(
    "C client", _ON_THE_DISK, (f"{_PEERS}.c_peer", "publish"), confirm=True, how=f"librabbitmq, {_WINDOW}"
)
_AS_DOCUMENTED = "as in its documentation"
CELERY = PublishingContender(
    "celery .delay()", "the socket took it", (f"{_PEERS}.celery_peer",), how=_AS_DOCUMENTED
)
CELERY_CONFIRMED = replace(
    CELERY, name="celery .delay(), confirmed", promises=_UNROUTED, confirm=True, how="confirm_publish"
)
DRAMATIQ = PublishingContender(
    "dramatiq", "the socket took it", (f"{_PEERS}.dramatiq_peer",), how=_AS_DOCUMENTED
)
DRAMATIQ_CONFIRMED = replace(
    DRAMATIQ, name="dramatiq, confirmed", promises=_ON_THE_DISK, confirm=True, how="confirm_delivery"
)
TASKIQ = PublishingContender(
    "taskiq, confirmed", _ON_THE_DISK, (f"{_PEERS}.taskiq_peer",), how=_AS_DOCUMENTED
)
PIKA = PublishingContender(
    "pika", "the socket took it", (f"{_PEERS}.pika_peer", "publish"), how=_AS_DOCUMENTED
)
PIKA_CONFIRMED = replace(
    PIKA, name="pika, confirmed", promises=_UNROUTED, confirm=True, how="confirm_delivery"
)
AIO_PIKA = PublishingContender(
    "aio-pika, confirmed", _UNROUTED, (f"{_PEERS}.aio_pika_peer", "publish"), how=_AS_DOCUMENTED
)

PUBLISHERS = (
    OURS,
    OURS_ALONE,
    OURS_IN_TRAYS,
    C_CLIENT,
    CELERY,
    CELERY_CONFIRMED,
    DRAMATIQ,
    DRAMATIQ_CONFIRMED,
    TASKIQ,
    PIKA,
    PIKA_CONFIRMED,
    AIO_PIKA,
)


def ours(name: str = "baozi", processes: int = PROCESSES, database: str = SQLITE, **changes: str) -> Eater:
    """Return Baozi's worker.

    Args:
        name: its name in the tables.
        processes: the number of pool processes.
        database: that of the ledger.
        changes: settings that are not the defaults, as ``BAOZI_TRAY="1"``.
    """
    return Eater(
        name,
        _LEDGER,
        ("celery", "--quiet", "-A", "tasks", "worker", "--loglevel", "WARNING", "-c", str(processes)),
        OURS,
        15_000 if changes.get("BAOZI_TRAY") == "1" else 40_000,
        environment=changes,
        database=database,
        table="eaten",
        audited=True,
    )


def _without_events(eater: Eater) -> Eater:
    return replace(eater, environment={**eater.environment, "BAOZI_TASK_EVENTS": "false"})


CELERY_PREFORK = Eater(
    "celery prefork", _ACKNOWLEDGED, (*_CELERY, "-c", str(PROCESSES)), CELERY, 6_000, how=_LATE
)
#: Milliseconds that a task sleeps.
LENGTHS_MS = (0, 0.1, 1, 10, 100)


def of_length(name: str, milliseconds: float) -> str:
    """Return the name of a contender whose tasks take so long."""
    return f"{name}, {milliseconds:g} ms"


def _task(eater: Eater, name: str, milliseconds: float) -> Eater:
    environment = (
        {**eater.environment, _TASK: f"{milliseconds / 1000:g}"} if eater.audited else eater.environment
    )
    return replace(
        eater,
        name=of_length(name, milliseconds),
        task_seconds=milliseconds / 1000,
        environment=environment,
    )


#: Tasks of each length on each database with default settings, and on plain Celery without a ledger.
TASKS = tuple(
    _task(eater, name, milliseconds)
    for milliseconds in LENGTHS_MS
    for eater, name in (
        (ours(), f"baozi, {SQLITE}"),
        (ours(database=POSTGRESQL), f"baozi, {POSTGRESQL}"),
        (CELERY_PREFORK, CELERY_PREFORK.name),
    )
)
#: Celery's task events, which Baozi sends by default.
EVENTS = (
    ours("events on"),
    replace(ours("events on, Flower attached"), flower=True),
    _without_events(ours("events off")),
)


def _inserting(database: str) -> tuple[Eater, Eater]:
    """Return Baozi and Celery, whose tasks insert one row of their own."""
    ours_is, theirs_is = f"{_PEERS}.insert_baozi_peer", f"{_PEERS}.insert_celery_peer"
    options = ("worker", "--loglevel", "WARNING", "-c", str(PROCESSES))
    filling = PublishingContender("baozi", _ON_THE_DISK, (ours_is,), database=database)
    mine = replace(
        ours(f"baozi, {database}", database=database),
        promises="acknowledged after the row and the ledger's are committed together, once",
        worker=("celery", "--quiet", "-A", ours_is, *options),
        filled_by=filling,
        backlog=20_000,
        table="bought",
    )
    theirs = Eater(
        f"celery with SQLAlchemy, {database}",
        "acknowledged after the row is committed, perhaps twice",
        ("celery", "--quiet", "-A", theirs_is, *options),
        replace(CELERY, command=(theirs_is,), database=database),
        6_000,
        database=database,
        table="bought",
        how=_LATE,
    )
    return mine, theirs


#: A function with one INSERT of its own: in the ledger's transaction, or committed by the task.
INSERTS = (*_inserting(SQLITE), *_inserting(POSTGRESQL))

EATERS = (
    ours(),
    ours(f"baozi, {POSTGRESQL}", database=POSTGRESQL),
    _without_events(ours("baozi, no events")),
    Eater(
        "C client",
        _ACKNOWLEDGED,
        (f"{_PEERS}.c_peer", "eat"),
        C_CLIENT,
        200_000,
        how="librabbitmq, one process, prefetch of 1,000",
    ),
    CELERY_PREFORK,
    Eater(
        "celery solo",
        _ACKNOWLEDGED,
        (*_CELERY, "-P", "solo", "-n", "solo{number}@%h"),
        CELERY,
        6_000,
        processes=PROCESSES,
        how=_LATE,
    ),
    Eater("celery threads", _ACKNOWLEDGED, (*_CELERY, "-P", "threads", "-c", "8"), CELERY, 6_000, how=_LATE),
    Eater(
        "dramatiq",
        _ACKNOWLEDGED,
        ("dramatiq", f"{_PEERS}.dramatiq_peer", "--processes", str(PROCESSES), "--threads", "8"),
        DRAMATIQ,
        20_000,
        how="8 threads in each process",
    ),
    Eater(
        "taskiq",
        _ACKNOWLEDGED,
        ("taskiq", "worker", f"{_PEERS}.taskiq_peer:broker", "--workers", str(PROCESSES)),
        TASKIQ,
        6_000,
        how=_AS_DOCUMENTED,
    ),
    Eater(
        "pika",
        _ACKNOWLEDGED,
        (f"{_PEERS}.pika_peer", "eat"),
        PIKA,
        20_000,
        processes=PROCESSES,
        how="prefetch of 100",
    ),
    Eater(
        "aio-pika",
        _ACKNOWLEDGED,
        (f"{_PEERS}.aio_pika_peer", "eat"),
        PIKA,
        20_000,
        processes=PROCESSES,
        how="prefetch of 100",
    ),
)
_DRAMATIQ_EATER = next(eater for eater in EATERS if eater.name == "dramatiq")


def _in_memory(kind: str, tray: int, backlog: int) -> Eater:
    name = {"queue": "multiprocessing.Queue", "manager": "multiprocessing Manager"}[kind]
    command = (f"{_PEERS}.multiprocessing_peer", kind, "--count", "{count}", "--tray", str(tray))
    trays = f", trays of {tray}" if tray > 1 else ""
    how = f"{tray} in one item" if tray > 1 else "one in one item"
    return Eater(f"{name}{trays}", _IN_MEMORY, command, None, backlog, how=how)


#: Measured end to end: publishing and eating at the same time.
BOTH = (
    ours(),
    replace(ours(OURS_IN_TRAYS.name), filled_by=OURS_IN_TRAYS, backlog=600_000),
    _in_memory("queue", 1, 60_000),
    _in_memory("queue", 100, 1_000_000),
    _in_memory("manager", 1, 15_000),
    _in_memory("manager", 100, 300_000),
    CELERY_PREFORK,
    _DRAMATIQ_EATER,
)
#: Measured for latency: each eats alone, at a fixed rate, on an idle machine.
AT_A_RATE = (ours(), ours(f"baozi, {POSTGRESQL}", database=POSTGRESQL), CELERY_PREFORK, _DRAMATIQ_EATER)


def _growing(eater: Eater, processes: int) -> Eater:
    """Return ``eater`` with so many pool ``processes``."""
    worker = tuple(str(processes) if it == str(PROCESSES) else it for it in eater.worker)
    return replace(eater, name=f"{eater.name}, processes: {processes}", worker=worker)


#: Measured with 1, 2 and 4 processes; Baozi also without batches.
GROWTH = (
    *(ours(f"baozi, processes: {processes}", processes) for processes in (1, 2, 4)),
    *(
        ours(f"baozi, processes: {processes}, one at a time", processes, BAOZI_TRAY="1")
        for processes in (1, 2, 4)
    ),
    *(_growing(eater, processes) for eater in (CELERY_PREFORK, _DRAMATIQ_EATER) for processes in (1, 2, 4)),
)


def _queue(
    name: str, promises: str, kind: str, backlog: int, how: str = _AS_DOCUMENTED, *, confirm: bool = False
) -> Eater:
    command = (f"{_PEERS}.queue_peer", kind, "--count", "{count}")
    return Eater(name, promises, command, None, backlog, confirm=confirm, how=how)


#: Queues with put and get, one producer and one consumer.
QUEUES = (
    _queue(
        "remote_mp.JoinableQueue",
        "acknowledged after task_done; on the broker's disk when put, but for a window of 1,000",
        "remote_mp",
        300_000,
        "window=1000",
    ),
    _queue(
        "remote_mp.JoinableQueue, one at a time",
        "acknowledged after task_done; on the broker's disk when put returns",
        "remote_mp-alone",
        5_000,
        "default settings",
    ),
    _queue("kombu SimpleQueue", "acknowledged; the socket took it when put returns", "simple-queue", 40_000),
    _queue("kombu SimpleQueue, confirmed", f"acknowledged; {_UNROUTED}", "simple-queue", 5_000, confirm=True),
    _queue("multiprocessing.JoinableQueue", _IN_MEMORY, "multiprocessing", 150_000),
    _queue("multiprocessing Manager's JoinableQueue", _IN_MEMORY, "manager", 40_000),
)
#: Baozi's publisher with different numbers of unconfirmed messages.
WINDOWS = tuple(
    replace(OURS, name=f"window {window:,}", environment={"BAOZI_WINDOW": str(window)})
    for window in (1, 10, 100, 1_000, 10_000)
)


def _prefetching(trays: int) -> Eater:
    eater = ours(f"prefetch of {trays} trays", BAOZI_TRAY="100")
    # Celery multiplies by the number of pool processes.
    return replace(eater, worker=(*eater.worker, "--prefetch-multiplier", str(trays * 100)))


def _pooled(pool: str, processes: int) -> Eater:
    eater = ours(f"pool {pool}", processes)
    return replace(eater, worker=(*eater.worker, "-P", pool))


#: What a worker can be told: its batches, its trays, how much it fetches ahead, its pool.
KNOBS = (
    *(ours(f"batches of {ms} ms", BAOZI_BATCH_MS=str(ms)) for ms in (0, 10, 50, 200)),
    *(ours(f"tray {tray:,}", BAOZI_TRAY=str(tray)) for tray in (1, 10, 100, 1_000)),
    *(_prefetching(trays) for trays in (1, 2, 4)),
    _pooled("prefork", PROCESSES),
    _pooled("threads", PROCESSES),
    _pooled("solo", 1),
)
#: Messages in the queue while memory is looked at.
BACKLOGS = (10_000, 1_000_000)
