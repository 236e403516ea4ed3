"""The ratios that ours must reach, in one run on the same machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.results import Measure, Results


@dataclass(frozen=True, slots=True)
class Target:
    """``ours`` divided by ``theirs`` must be ``at_least`` this, or ``at_most``."""

    what: str
    measure: Measure
    ours: str
    theirs: str
    at_least: float | None = None
    at_most: float | None = None

    def ratio(self, results: Results) -> float | None:
        """Return the ratio of the medians; None where one was not measured."""
        ours, theirs = (results.values(self.measure, name) for name in (self.ours, self.theirs))
        return median(ours) / median(theirs) if ours and theirs else None

    def met(self, ratio: float) -> bool:
        """Whether ``ratio`` reaches the target."""
        if self.at_least is not None:
            return ratio >= self.at_least
        return self.at_most is not None and ratio <= self.at_most

    @property
    def wanted(self) -> str:
        """The target in words."""
        return f"≥ {self.at_least:g} ×" if self.at_least is not None else f"≤ {self.at_most:g} ×"


TARGETS: Sequence[Target] = (
    Target(
        "confirmed publish / celery .delay(), confirmed",
        Measure.PUBLISH,
        "baozi",
        "celery .delay(), confirmed",
        at_least=15,
    ),
    Target("confirmed publish / dramatiq unconfirmed", Measure.PUBLISH, "baozi", "dramatiq", at_least=1),
    Target(
        "one baozi at a time / celery .delay(), confirmed",
        Measure.PUBLISH,
        "baozi",
        "celery .delay(), confirmed",
        at_least=1,
    ),
    Target("eaten, in the ledger / celery prefork", Measure.EAT, "baozi", "celery prefork", at_least=5),
    Target("eaten, in the ledger / dramatiq", Measure.EAT, "baozi", "dramatiq", at_least=2),
    Target("one baozi, idle: median wait / celery's", Measure.LATENCY, "baozi", "celery prefork", at_most=1),
    Target(
        "worker's memory, backlog of 1,000,000 / of 10,000",
        Measure.MEMORY,
        "worker, backlog 1,000,000",
        "worker, backlog 10,000",
        at_most=1.1,
    ),
    Target(
        "producer's memory, 1,000,000 / 10,000",
        Measure.MEMORY,
        "producer, backlog 1,000,000",
        "producer, backlog 10,000",
        at_most=1.1,
    ),
)
