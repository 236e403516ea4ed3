"""The facts about an app, its broker, its workers and its ledger, which are the only input of the rules."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

#: Seconds that RabbitMQ lets a consumer hold a message, if nothing else is configured (RabbitMQ guide
#: "Consumers", Acknowledgement Timeout).
CONSUMER_TIMEOUT = 1800
#: The first release of RabbitMQ whose quorum queues have a delivery limit of 20 by default.
_LIMIT_BY_DEFAULT = (4, 0)

Version = tuple[int, ...]


def version_of(text: str | None) -> Version | None:
    """Return the numbers of a version, such as ``(5, 7, 0)`` of "5.7.0rc1"; None if there are none."""
    found = re.match(r"\d+(?:\.\d+)*", text or "")
    return tuple(map(int, found[0].split("."))) if found else None


@dataclass(frozen=True)
class Task:
    """One task of the app, with the options that it has after the app's settings were applied."""

    name: str
    reliable: bool = False
    """Whether :meth:`baozi.Reliable.task` made it. It has its own delivery, and its own checks."""
    acks_late: bool = False
    reject_on_worker_lost: bool = False
    retry_on_worker_lost: bool = False
    acks_on_failure: bool = True
    acks_on_timeout: bool = True
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool = False
    mandatory: bool = False
    autoretry: bool = False
    """Whether Celery retries it on exceptions that it names in ``autoretry_for``."""

    @property
    def limit(self) -> float | None:
        """Seconds after which it is ended, or None for no limit."""
        return self.time_limit or self.soft_time_limit or None


@dataclass(frozen=True)
class FoundCall:
    """A call in the app's own source that a rule asks about."""

    kind: str
    """``delay`` (a countdown, an ETA or a retry), ``in transaction`` or ``nack``."""
    place: str
    """The file and the line: ``shop/tasks.py:12``."""
    seconds: float | None = None
    """The countdown, if it is written as a number."""


@dataclass(frozen=True)
class QueueFacts:
    """A queue that the app's workers consume."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Those of the broker's queue and policy if the broker showed them, else those that the app declares."""
    exchange_type: str = "direct"
    made_by_celery: bool = False
    """Whether it is in no ``task_queues`` of the app: Celery makes it up."""
    known: bool = True
    """Whether the arguments are known. They are not where the app does not declare the queue itself."""
    seen: bool = False
    """Whether the broker showed them."""
    reliable: bool = False
    """Whether it is the queue that a Reliable guards."""
    declared_type: str | None = None
    """The type that the app itself declares, if it names one."""

    @property
    def type(self) -> str | None:
        """``classic``, ``quorum`` or ``stream``, or None if it is unknown."""
        given = self.arguments.get("x-queue-type")
        if given is None and not self.known:
            return None
        return str(given or "classic")

    def get(self, name: str) -> Any:
        """Return an argument by its name without ``x-``, or None."""
        return self.arguments.get(f"x-{name}")

    def delivery_limit(self, broker: Version | None) -> int | None:
        """Return how often a message may be given back; -1 for no limit, None if it is unknown."""
        if self.type == "classic":
            return -1
        if self.type != "quorum" or not self.known:
            return None
        limit = self.get("delivery-limit")
        if limit is not None:
            return int(limit)
        if broker is None:
            return None
        return 20 if broker >= _LIMIT_BY_DEFAULT else -1


@dataclass(frozen=True)
class App:
    """A Celery app, as its worker process would have it."""

    name: str
    settings: Mapping[str, Any]
    """Celery's settings by their lower-case names."""
    tasks: tuple[Task, ...] = ()
    queues: tuple[QueueFacts, ...] = ()
    calls: tuple[FoundCall, ...] = ()
    scheme: str = "amqp"
    """The scheme of the broker's URL."""
    overrides: tuple[str, ...] = ()
    """Variables of the environment that name another broker than the app's own settings."""
    reliable: bool = False
    """Whether it has a :class:`baozi.Reliable`."""
    batch: int = 1
    """Messages of the largest batch of a Reliable."""

    @property
    def amqp(self) -> bool:
        """Whether its broker speaks AMQP."""
        return self.scheme in {"amqp", "amqps", "pyamqp", "pyamqps"}

    @property
    def plain(self) -> tuple[Task, ...]:
        """The tasks that are not reliable."""
        return tuple(task for task in self.tasks if not task.reliable)

    def calls_of(self, kind: str) -> list[FoundCall]:
        """Return the calls of one kind."""
        return [call for call in self.calls if call.kind == kind]


@dataclass(frozen=True)
class BrokerFacts:
    """What RabbitMQ says about itself. What the user may not see is empty."""

    version: str | None = None
    managed: bool = False
    """Whether the management API answered."""
    queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The queues' arguments with their policies, by name."""
    consumed: frozenset[str] = frozenset()
    """Names of the queues that have a consumer now."""
    exchanges: Mapping[str, str] | None = None
    """The exchanges' types by name; None if they are not known."""
    bindings: tuple[tuple[str, str, str], ...] = ()
    """Exchange, queue and routing key of each binding."""
    alarms: tuple[str, ...] = ()
    """Which alarm is on, and on which node."""
    writers: frozenset[str] = frozenset()
    """Other users than the app's own that may write to an exchange of the app."""

    @property
    def numbers(self) -> Version | None:
        """Its version as numbers."""
        return version_of(self.version)


@dataclass(frozen=True)
class WorkerFacts:
    """A worker that answered."""

    name: str
    celery: str | None = None
    """Its release of Celery."""
    pool: str = "prefork"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LedgerFacts:
    """The ledger of a Reliable, or of BAOZI_LEDGER_URL."""

    version: int
    needed: int
    ahead: float | None = None
    """Seconds that its server's clock is ahead of this machine's; None for a file."""


@dataclass(frozen=True)
class Container:
    """This container, if its first process is a worker."""

    remap_sigterm: str = ""
    """The value of its variable REMAP_SIGTERM."""


@dataclass(frozen=True)
class Facts:
    """All that was found. A part that is None was not looked at."""

    app: App | None = None
    broker: BrokerFacts | None = None
    workers: tuple[WorkerFacts, ...] | None = None
    ledger: LedgerFacts | None = None
    container: Container | None = None
    celery: str = ""
    """The release of Celery that this process has."""

    @property
    def broker_version(self) -> Version | None:
        """RabbitMQ's version, if it is known."""
        return self.broker.numbers if self.broker else None

    @property
    def queues(self) -> tuple[QueueFacts, ...]:
        """The queues that the app consumes; without an app, those that have a consumer now.

        The broker's own word comes before what the app declares.
        """
        seen = self.broker.queues if self.broker else {}
        if self.app is None:
            consumed = self.broker.consumed if self.broker else frozenset()
            return tuple(QueueFacts(name, seen[name], seen=True) for name in sorted(consumed) if name in seen)
        return tuple(
            replace(it, arguments=seen[it.name], known=True, seen=True) if it.name in seen else it
            for it in self.app.queues
        )

    @property
    def plain_queues(self) -> tuple[QueueFacts, ...]:
        """Those that are not guarded by a Reliable."""
        return tuple(queue for queue in self.queues if not queue.reliable)

    def celery_versions(self) -> dict[str, Version]:
        """Return the release of Celery of each worker that answered, or else of this process."""
        told = {it.name: version_of(it.celery) for it in self.workers or ()}
        known = {name: version for name, version in told.items() if version}
        here = version_of(self.celery)
        return known or ({"this process": here} if here else {})


def some(names: Iterable[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    listed = sorted(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")


def places(calls: Iterable[FoundCall], most: int = 3) -> str:
    """Return where the first calls stand, and how many more there are."""
    return some(dict.fromkeys(call.place for call in calls), most)


def routed(bindings: Iterable[tuple[str, str, str]], exchange: str) -> Iterator[str]:
    """Yield the queues that ``exchange`` leads to."""
    return (queue for source, queue, _ in bindings if source == exchange)
