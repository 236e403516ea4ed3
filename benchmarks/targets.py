"""The speed targets: ratios of Baozi to a peer, in one run on one machine and one broker."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.contenders import BACKLOGS, CELERY_PREFORK, LENGTHS_MS, POSTGRESQL, SQLITE, of_length
from benchmarks.results import BenchmarkResults, Measure
from side_by_side.summary import Spread, spread


@dataclass(frozen=True, slots=True)
class RatioTarget:
    """A target: the ratio of ``ours`` to ``theirs`` has a limit, ``at_least`` or ``at_most``.

    The ratio is taken turn by turn, and the median of these ratios counts. Without ``theirs`` it is the
    median of ``ours``. It is compared as it is shown, with two decimals.
    """

    what: str
    measure: Measure
    ours: str
    theirs: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    p99: bool = False
    """Whether the 99th percentile counts."""

    @property
    def contenders(self) -> tuple[str, ...]:
        """The names of the contenders that must be measured."""
        return (self.ours, self.theirs) if self.theirs else (self.ours,)

    def ratio(self, results: BenchmarkResults) -> Spread | None:
        """Return the median of the ratios, and their range. None if there is no turn of both."""
        ours = self._values(results, self.ours)
        theirs = self._values(results, self.theirs) if self.theirs else dict.fromkeys(ours, 1.0)
        return spread(ours[turn] / theirs[turn] for turn in ours if theirs.get(turn))

    def why_not(self, results: BenchmarkResults) -> str:
        """Return why there is no ratio."""
        for contender in self.contenders:
            gap = results.gap(self.measure, contender)
            if gap is not None:
                return f"{contender}: {gap.reason}"
        missing = [name for name in self.contenders if not results.of(self.measure, name)]
        if missing:
            return "not in this run" + (f": {missing[0]}" if len(missing) < len(self.contenders) else "")
        return "there is no turn that both made"

    def shown(self, value: float) -> str:
        """Return ``value``, a ratio of :meth:`ratio`, as text."""
        return f"{value:.2f} ×" if self.theirs else f"{value:,.0f}"

    def met(self, ratio: Spread) -> bool:
        """Return whether ``ratio`` reaches the target."""
        value = round(ratio.median, 2)
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    @property
    def wanted(self) -> str:
        """The limit as text."""
        unit = " ×" if self.theirs else ""
        return f"≥ {self.at_least:,g}{unit}" if self.at_least is not None else f"≤ {self.at_most:g}{unit}"

    def _values(self, results: BenchmarkResults, contender: str) -> dict[int, float]:
        """Return the value of each turn of ``contender``, by its number."""
        turns = results.of(self.measure, contender)
        return {it.turn: value for it in turns if (value := it.p99 if self.p99 else it.value) is not None}


#: The least ratio to Celery for each length of a task, in milliseconds.
_LEAST = {0: 5.0, 0.1: 1.5, 1: 1.0, 10: 1.0, 100: 1.0}


def _tasks(database: str) -> list[RatioTarget]:
    """Return the targets of the cost by task length."""
    return [
        RatioTarget(
            f"tasks of {length:g} ms, {database}, default settings / celery prefork without a ledger",
            Measure.TASKS,
            of_length(f"baozi, {database}", length),
            of_length(CELERY_PREFORK.name, length),
            at_least=_LEAST[length],
        )
        for length in LENGTHS_MS
    ]


def _memory(who: str) -> RatioTarget:
    few, many = (f"{who}, backlog {backlog:,}" for backlog in BACKLOGS)
    what = f"{who}: memory with a backlog of {BACKLOGS[1]:,} / of {BACKLOGS[0]:,}"
    return RatioTarget(what, Measure.MEMORY, many, few, at_most=1.1)


def _insert(database: str) -> RatioTarget:
    return RatioTarget(
        f"one INSERT in the ledger's transaction / celery with SQLAlchemy, {database}",
        Measure.INSERT,
        f"baozi, {database}",
        f"celery with SQLAlchemy, {database}",
        at_least=3,
    )


TARGETS: Sequence[RatioTarget] = (
    *_tasks(SQLITE),
    *_tasks(POSTGRESQL),
    RatioTarget("task events on / off", Measure.EVENTS, "events on", "events off", at_least=0.9),
    RatioTarget(
        "task events on, Flower attached / off",
        Measure.EVENTS,
        "events on, Flower attached",
        "events off",
        at_least=0.9,
    ),
    _insert(SQLITE),
    _insert(POSTGRESQL),
    RatioTarget("confirmed publish / C client", Measure.PUBLISH, "baozi", "C client", at_least=0.6),
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
    RatioTarget(
        "eaten, ledger on SQLite, no events / C client",
        Measure.EAT,
        "baozi, no events",
        "C client",
        at_least=0.3,
    ),
    RatioTarget(
        "eaten, ledger on SQLite, no events / dramatiq",
        Measure.EAT,
        "baozi, no events",
        "dramatiq",
        at_least=2,
    ),
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
        "idle system: median from put to commit / celery's from put to start",
        Measure.LATENCY,
        "baozi",
        CELERY_PREFORK.name,
        at_most=1,
    ),
    RatioTarget(
        "idle system: 99th percentile from put to commit / celery's from put to start",
        Measure.LATENCY,
        "baozi",
        CELERY_PREFORK.name,
        at_most=1,
        p99=True,
    ),
    RatioTarget(
        "remote_mp.JoinableQueue, window 1 / multiprocessing Manager's",
        Measure.QUEUES,
        "remote_mp.JoinableQueue, one at a time",
        "multiprocessing Manager's JoinableQueue",
        at_least=0.3,
    ),
    RatioTarget(
        "remote_mp.JoinableQueue, window 1,000 / multiprocessing Manager's",
        Measure.QUEUES,
        "remote_mp.JoinableQueue",
        "multiprocessing Manager's JoinableQueue",
        at_least=1,
    ),
    RatioTarget(
        "remote_mp.JoinableQueue, window 1,000 / kombu SimpleQueue",
        Measure.QUEUES,
        "remote_mp.JoinableQueue",
        "kombu SimpleQueue",
        at_least=3,
    ),
    _memory("producer"),
    _memory(f"worker, {SQLITE}"),
    _memory(f"worker, {POSTGRESQL}"),
)
