"""Shows dangers: starts the brokers that they need, and runs each app with the danger and with the fix."""

import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import celery
import psutil
from amqp.exceptions import AMQPError

from baozi.broker import engine
from baozi.doctor.application import masked
from baozi.doctor.facts import version_of
from baozi.errors import BaoziError
from baozi.prove.dangers.app import write_app
from baozi.prove.dangers.demonstration import DEMONSTRATIONS, Demonstration
from baozi.prove.dangers.trial import DangerTrial
from baozi.prove.lab_broker import HEARTBEAT, LabBroker, own_broker

#: What the broker does within seconds instead of minutes; milliseconds, and bytes. 16 MiB is the default size
#: of RabbitMQ 4.
_BROKER = {
    "heartbeat": HEARTBEAT,
    "channel_tick_interval": 1000,
    "quorum_tick_interval": 500,
    "collect_statistics_interval": 500,
    "dead_letter_worker_publisher_confirm_timeout": 2000,
    "max_message_size": 16 * 1024**2,
}


@dataclass(frozen=True)
class Shown:
    """One try of a demonstration."""

    rule: str
    rabbitmq: str
    """The broker's version."""
    with_danger: int | None = None
    """The number that was counted with the danger; None if the demonstration could not be made."""
    with_fix: int | None = None
    problem: str = ""
    """Why the demonstration could not be made."""
    seconds: float = 0
    celery: str = celery.__version__
    """Celery's version."""

    @property
    def demonstration(self) -> Demonstration:
        """What was tried."""
        return DEMONSTRATIONS[self.rule]

    @property
    def happened(self) -> bool:
        """Whether the danger was seen."""
        return self.with_danger is not None and self.with_danger > self.demonstration.most

    @property
    def holds(self) -> bool:
        """Whether it was not seen with the fix."""
        return self.with_fix is not None and self.with_fix <= self.demonstration.most

    @property
    def complete(self) -> bool:
        """Whether the danger was seen and the fix holds; or was not seen where it should be gone."""
        if self.demonstration.gone:
            return self.with_danger is not None and not self.happened
        return self.happened and self.holds


class Brokers:
    """The brokers of the demonstrations. Each is started when the first demonstration needs it."""

    def __init__(self, kind: str | None) -> None:
        """Start none.

        Args:
            kind: "private" or "container" for all; default: a container for what needs a newer RabbitMQ.
        """
        self._kind = kind
        self._started: dict[str | None, LabBroker] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Return the brokers."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all."""
        self._stack.close()

    def of(self, demonstration: Demonstration) -> LabBroker:
        """Return a broker for a demonstration.

        Raises:
            BaoziError: this machine can start none that fits.
        """
        broker = self._get(self._kind)
        if _fits(broker, demonstration):
            return broker
        needed = ".".join(map(str, demonstration.since))
        if self._kind is None and engine.answers():
            broker = self._get("container")
            if _fits(broker, demonstration):
                return broker
        raise BaoziError("It needs RabbitMQ {needed}, in a container.", needed=needed)

    def _get(self, kind: str | None) -> LabBroker:
        if kind not in self._started:
            broker = self._stack.enter_context(own_broker(kind))
            assert broker.node is not None, "it was started here"  # noqa: S101  # a mypy narrowing
            pairs = ",".join(f"{{{name},{value}}}" for name, value in _BROKER.items())
            broker.node.control("eval", f"[application:set_env(rabbit,N,V) || {{N,V}} <- [{pairs}]].")
            self._started[kind] = broker
        return self._started[kind]


def _fits(broker: LabBroker, demonstration: Demonstration) -> bool:
    return (version_of(broker.version) or (0,)) >= demonstration.since


def show(
    demonstrations: Iterable[Demonstration], times: int, kind: str | None, folder: Path
) -> Generator[Shown, None, None]:
    """Show each danger and its fix, and yield each try.

    Args:
        demonstrations: which.
        times: how often.
        kind: of the broker; see :class:`Brokers`.
        folder: gets the files and logs of each app.
    """
    with Brokers(kind) as brokers:
        for demonstration in demonstrations:
            for number in range(1, times + 1):
                yield _try(demonstration, brokers, folder / demonstration.rule / str(number))


def _try(demonstration: Demonstration, brokers: Brokers, folder: Path) -> Shown:
    began, version = time.monotonic(), "unknown"
    try:
        broker = brokers.of(demonstration)
        version = broker.version or version
        danger = _count(demonstration, broker, folder / "danger", demonstration.danger, demonstration.tasks)
        fix = None
        if not demonstration.gone:
            fix = _count(demonstration, broker, folder / "fix", demonstration.fix, demonstration.fixed_tasks)
    except (BaoziError, AMQPError, OSError, psutil.Error) as error:
        return Shown(demonstration.rule, version, problem=masked(error), seconds=time.monotonic() - began)
    return Shown(demonstration.rule, version, danger, fix, seconds=time.monotonic() - began)


def _count(demonstration: Demonstration, broker: LabBroker, folder: Path, lines: str, tasks: str) -> int:
    app = write_app(folder / "app", lines, tasks)
    name = f"baozi-{demonstration.rule}-{folder.name}".lower()
    with DangerTrial(broker, folder / "trial", name, app_folder=app) as trial:
        trial.fixed = folder.name == "fix"
        return demonstration.show(trial)


def line(shown: Shown) -> str:
    """Return a try in a line."""
    if shown.with_danger is None:
        return f"{shown.rule}: {shown.problem}"
    told = shown.demonstration.told
    fixed = f"; with the fix {told(shown.with_fix)}" if shown.with_fix is not None else ""
    return (
        f"{shown.rule}: {told(shown.with_danger)}{fixed} ({shown.seconds:.0f} s, RabbitMQ {shown.rabbitmq})"
    )
