"""The speed targets: ratios of Baozi to a peer, in one run on one machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.results import BenchmarkResults, Measure


@dataclass(frozen=True, slots=True)
class RatioTarget:
    """A target: the median of ``ours``, divided by that of ``theirs`` if it is given, has a limit.

    The limit is ``at_least`` or ``at_most``.
    """

    what: str
    measure: Measure
    ours: str
    theirs: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def ratio(self, results: BenchmarkResults) -> float | None:
        """Return the ratio of the medians, or the median of ``ours``. None if one was not measured."""
        ours = results.values(self.measure, self.ours)
        theirs = results.values(self.measure, self.theirs) if self.theirs else [1]
        return median(ours) / median(theirs) if ours and theirs else None

    def shown(self, ratio: float) -> str:
        """Return ``ratio``, as :meth:`ratio` returns it, as text."""
        return f"{ratio:.2f} ×" if self.theirs else f"{ratio:,.0f}"

    def met(self, ratio: float) -> bool:
        """Return whether ``ratio`` reaches the target."""
        if self.at_least is not None:
            return ratio >= self.at_least
        return self.at_most is not None and ratio <= self.at_most

    @property
    def wanted(self) -> str:
        """The limit as text."""
        unit = " ×" if self.theirs else ""
        return f"≥ {self.at_least:,g}{unit}" if self.at_least is not None else f"≤ {self.at_most:g}{unit}"


TARGETS: Sequence[RatioTarget] = (
    RatioTarget(
        "confirmed publish / celery .delay(), confirmed",
        Measure.PUBLISH,
        "baozi",
        "celery .delay(), confirmed",
        at_least=15,
    ),
    RatioTarget("confirmed publish / dramatiq unconfirmed", Measure.PUBLISH, "baozi", "dramatiq", at_least=1),
    RatioTarget(
        "one baozi at a time / celery .delay(), confirmed",
        Measure.PUBLISH,
        "baozi, one at a time",
        "celery .delay(), confirmed",
        at_least=1,
    ),
    RatioTarget("eaten, in the ledger / celery prefork", Measure.EAT, "baozi", "celery prefork", at_least=5),
    RatioTarget("eaten, in the ledger / dramatiq", Measure.EAT, "baozi", "dramatiq", at_least=2),
    RatioTarget(
        "trays of 100, end to end, in the ledger / multiprocessing.Queue",
        Measure.BOTH,
        "baozi, trays of 100",
        "multiprocessing.Queue, trays of 100",
        at_least=1,
    ),
    RatioTarget(
        "trays of 100, end to end, in the ledger: a second",
        Measure.BOTH,
        "baozi, trays of 100",
        at_least=50_000,
    ),
    RatioTarget(
        "one baozi, idle: median wait / celery's", Measure.LATENCY, "baozi", "celery prefork", at_most=1
    ),
    RatioTarget(
        "remote_mp.JoinableQueue / kombu SimpleQueue",
        Measure.QUEUES,
        "remote_mp.JoinableQueue",
        "kombu SimpleQueue",
        at_least=3,
    ),
    RatioTarget(
        "remote_mp.JoinableQueue / Manager's",
        Measure.QUEUES,
        "remote_mp.JoinableQueue",
        "multiprocessing Manager's JoinableQueue",
        at_least=1,
    ),
    RatioTarget(
        "worker's memory, backlog of 1,000,000 / of 10,000",
        Measure.MEMORY,
        "worker, backlog 1,000,000",
        "worker, backlog 10,000",
        at_most=1.1,
    ),
    RatioTarget(
        "producer's memory, 1,000,000 / 10,000",
        Measure.MEMORY,
        "producer, backlog 1,000,000",
        "producer, backlog 10,000",
        at_most=1.1,
    ),
)
