"""The format of ``results.json``, from which all tables and pictures of the benchmarks are made."""

from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from baozi.errors import UsageError
from side_by_side.results import Machine, ResultModel


class Measure(StrEnum):
    """What was measured."""

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


class Turn(ResultModel):
    """One measurement of one contender."""

    measure: Measure
    contender: str
    promises: str
    turn: int
    value: float
    """The result, in the measure's unit. For latencies the median."""
    p99: float | None = None
    """For latencies the 99th percentile, in seconds."""
    lost: int | None = None
    """How many baozi the audit counts as lost. None for a peer."""


class BenchmarkResults(ResultModel):
    """The results of one run of the benchmarks."""

    machine: Machine
    seed: int
    began_at: float
    took: float
    turns: list[Turn]

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

    def values(self, measure: Measure, contender: str) -> list[float]:
        """Return the value of each turn of ``contender``."""
        return [it.value for it in self.of(measure, contender)]

    def of(self, measure: Measure, contender: str) -> list[Turn]:
        """Return the turns of ``contender``."""
        return [it for it in self.turns if it.measure is measure and it.contender == contender]

    def contenders(self, measure: Measure) -> list[str]:
        """Return the names of the contenders that were measured, in the order of the tables."""
        return list(dict.fromkeys(it.contender for it in self.turns if it.measure is measure))
