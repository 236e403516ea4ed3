"""What a run of the benchmarks leaves: ``results.json``. Tables and pictures are made from it alone."""

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


#: What a measure's value counts.
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
    """In the measure's unit; of latencies the median."""
    p99: float | None = None
    lost: int | None = None
    """By the audit, of ours."""


class BenchmarkResults(ResultModel):
    """A whole run."""

    machine: Machine
    seed: int
    began_at: float
    took: float
    turns: list[Turn]

    @classmethod
    def read(cls, path: Path) -> "BenchmarkResults":
        """Return what stands in the file at ``path``.

        Raises:
            UsageError: it cannot be read, or is not ours.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
        except ValidationError:
            raise UsageError(f"{path} is not the results of these benchmarks.") from None

    def values(self, measure: Measure, contender: str) -> list[float]:
        """Return what each turn of ``contender`` gave."""
        return [it.value for it in self.of(measure, contender)]

    def of(self, measure: Measure, contender: str) -> list[Turn]:
        """Return the turns of ``contender``."""
        return [it for it in self.turns if it.measure is measure and it.contender == contender]

    def contenders(self, measure: Measure) -> list[str]:
        """Return who was measured, in the order of the list of contenders."""
        return list(dict.fromkeys(it.contender for it in self.turns if it.measure is measure))
