"""The format of ``results.json``, from which all tables and pictures of the benchmarks are made."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, ValidationError

from baozi.errors import UsageError
from side_by_side.results import Machine, ResultModel


class Measure(StrEnum):
    """What was measured."""

    TASKS = "task length"
    EVENTS = "task events"
    INSERT = "own insert"
    PUBLISH = "publish"
    EAT = "eat"
    BOTH = "both at once"
    LATENCY = "latency"
    QUEUES = "queues"
    GROWTH = "growth"
    WINDOW = "window"
    KNOBS = "knobs"
    MEMORY = "memory"


#: The unit of each measure's value.
UNITS = {
    Measure.TASKS: "tasks a second",
    Measure.EVENTS: "eaten a second, in the ledger",
    Measure.INSERT: "tasks a second",
    Measure.PUBLISH: "published a second",
    Measure.EAT: "eaten a second",
    Measure.BOTH: "put and eaten a second",
    Measure.LATENCY: "seconds from made to eaten",
    Measure.QUEUES: "put, got and done a second",
    Measure.GROWTH: "eaten a second",
    Measure.WINDOW: "published a second, confirmed",
    Measure.KNOBS: "eaten a second, in the ledger",
    Measure.MEMORY: "bytes of the largest process",
}


#: What is done for each measure, in a sentence.
WORKLOADS = {
    Measure.TASKS: "Tasks that sleep so long, from a full queue, executed by two pool processes.",
    Measure.EVENTS: "Tasks that do nothing, from a full queue. Flower runs on the same machine.",
    Measure.INSERT: "Tasks that insert one row into a table, from a full queue, by two pool processes.",
    Measure.PUBLISH: "One process publishes for two seconds to a quorum queue.",
    Measure.EAT: "Tasks that do nothing, from a full queue, by two processes.",
    Measure.BOTH: "One process puts, and two eat at the same time.",
    Measure.LATENCY: "Fifty messages a second for five seconds, on a system that does nothing else.",
    Measure.QUEUES: "One process puts, and one gets and acknowledges at the same time.",
    Measure.GROWTH: "Tasks that do nothing, from a full queue, by a number of pool processes.",
    Measure.WINDOW: "One process publishes for two seconds with this many unconfirmed messages.",
    Measure.KNOBS: "Tasks that do nothing, from a full queue, by two processes.",
    Measure.MEMORY: "Unique set size of a producer that fills a queue, and of a worker that eats from it.",
}


class Tried(ResultModel):
    """Which contender was tried under which measure."""

    measure: Measure
    contender: str
    settings: str = ""
    promises: str
    turn: int
    on: str = "private"
    """The kind of broker: "private" or "container"."""

    def with_result(self, value: float, p99: float | None, lost: int | None) -> "Turn":
        """Return the turn with its result."""
        return Turn(**dict(self), value=value, p99=p99, lost=lost)

    def without_result(self, reason: str, *, failed: bool) -> "Gap":
        """Return the turn without a result."""
        return Gap(**dict(self), reason=reason, failed=failed)


class Turn(Tried):
    """One measurement of one contender."""

    value: float
    """The result, in the measure's unit. For latencies the median."""
    p99: float | None = None
    """For latencies the 99th percentile, in seconds."""
    lost: int | None = None
    """How many baozi the audit counts as lost. None for a peer, and if the rest was not eaten in time."""


class Gap(Tried):
    """A turn that has no result."""

    reason: str
    failed: bool
    """Whether it should have worked. If not, this machine lacks what it needs."""


class BenchmarkResults(ResultModel):
    """The results of one run of the benchmarks."""

    machine: Machine
    seed: int
    began_at: float
    took: float
    brokers: dict[str, str]
    """The versions of RabbitMQ, by the kind of broker, in the order in which they were measured."""
    turns: list[Turn]
    gaps: list[Gap] = Field(default_factory=list)
    release: str = ""
    """The commit of this project, and "+" if files were changed."""
    part: float = 1
    """The part of the usual backlogs."""
    quick: bool = False
    """Whether only what the targets name was measured, with small backlogs."""

    @classmethod
    def read(cls, path: Path) -> "BenchmarkResults":
        """Read the results from the file ``path``.

        Raises:
            UsageError: the file cannot be read, or has no results of these benchmarks.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
        except ValidationError:
            raise UsageError(f"{path} is not the results of these benchmarks.") from None

    def on(self, broker: str) -> "BenchmarkResults":
        """Return the results on one kind of broker."""
        return self.model_copy(
            update={
                "brokers": {broker: self.brokers[broker]},
                "turns": [it for it in self.turns if it.on == broker],
                "gaps": [it for it in self.gaps if it.on == broker],
            }
        )

    @property
    def each_broker(self) -> "dict[str, BenchmarkResults]":
        """The results on each kind of broker, by the broker's name and version."""
        return {f"RabbitMQ {version}": self.on(kind) for kind, version in self.brokers.items()}

    def of(self, measure: Measure, contender: str) -> list[Turn]:
        """Return the turns of ``contender``."""
        return [it for it in self.turns if it.measure is measure and it.contender == contender]

    def gap(self, measure: Measure, contender: str) -> Gap | None:
        """Return the first turn of ``contender`` that has no result; None if there is none."""
        found = (it for it in self.gaps if it.measure is measure and it.contender == contender)
        return next(found, None)

    def contenders(self, measure: Measure) -> list[str]:
        """Return the names of the contenders that were tried, in the order of the tables."""
        return list(dict.fromkeys(it.contender for it in self.everything if it.measure is measure))

    @property
    def everything(self) -> list[Turn | Gap]:
        """All turns, with and without a result, in the order of the tables."""
        order = {measure: place for place, measure in enumerate(Measure)}
        return sorted([*self.turns, *self.gaps], key=lambda it: order[it.measure])
