"""Several runs in few words: median and range, what is unstable, and the verdict of them all."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from side_by_side.results import Counts, Latency, Measure, Results, Run, Verdict

#: A range wider than this part of its median is called unstable. For five runs it is about what pyperf warns
#: of, a standard deviation above a tenth of the mean: of five normal values the range is 2.3 deviations.
UNSTABLE_ABOVE = 0.25


@dataclass(frozen=True, slots=True)
class Spread:
    """A number that was measured several times."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    @property
    def unstable(self) -> bool:
        """Whether the range is so wide that the median says little."""
        return self.high - self.low > UNSTABLE_ABOVE * abs(self.median)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return median and range of those ``values`` that are numbers; ``None`` if there are none."""
    known = tuple(value for value in values if value is not None and math.isfinite(value))
    return Spread(median(known), min(known), max(known), known) if known else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of all runs of one kind."""

    verdict: Verdict
    """The worst of them."""
    expected: Verdict
    tally: dict[Verdict, int]
    """How many runs had which verdict, the worst first."""
    as_expected: bool
    """Whether each single run was."""

    @property
    def runs(self) -> int:
        """How many there were."""
        return sum(self.tally.values())


def outcome(runs: list[Run]) -> Outcome | None:
    """Return what became of ``runs``, of one transport under one fault; ``None`` if there are none."""
    if not runs:
        return None
    times = Counter(run.verdict for run in runs)
    tally = {verdict: times[verdict] for verdict in Verdict if times[verdict]}
    return Outcome(next(iter(tally)), runs[0].expected, tally, all(run.as_expected for run in runs))


def transports(results: Results) -> list[str]:
    """The transports in the comparison's order, those first for which it says what "accepted" means."""
    return list(dict.fromkeys([*results.accepted_means, *(run.transport for run in _in_order(results.runs))]))


def faults(runs: list[Run]) -> list[str]:
    """The faults that were injected, by name."""
    return sorted({run.fault for run in runs if run.fault is not None})


def runs_of(
    runs: list[Run], transport: str, measure: Measure | None = None, fault: str | None = None
) -> list[Run]:
    """The ``runs`` of a transport under ``fault``, or under none, as they came."""
    wanted = (run for run in runs if run.transport == transport and run.fault == fault)
    return _in_order(run for run in wanted if measure is None or run.measure is measure)


def spread_of(runs: list[Run], value: Callable[[Run], float | None]) -> Spread | None:
    """Median and range of one ``value`` of each run."""
    return spread(value(run) for run in runs)


def latency_of(runs: list[Run], value: Callable[[Latency], float]) -> Spread | None:
    """Median and range of one ``value`` of the runs whose latency was measured."""
    return spread(value(run.latency) for run in runs if run.latency)


def count_of(runs: list[Run], value: Callable[[Counts], int]) -> Spread | None:
    """Median and range of one of the sums, such as how many were lost."""
    return spread(value(run.counts) for run in runs)


def peak_memory(runs: list[Run]) -> dict[str, float]:
    """Bytes by role: the most that a process of that role had in any run."""
    peaks: dict[str, float] = {}
    for usage in (run.usage for run in runs if run.usage):
        for role, size in usage.peak_memory.items():
            peaks[role] = max(size, peaks.get(role, 0))
    return peaks


def _in_order(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.order)
