"""The numbers and verdicts of the tables and of the report, computed from the runs of a comparison."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from baozi.language import Sentence
from side_by_side.comparison_results import ComparisonResults, Latency, Run, RunKind, Verdict

#: A range wider than this part of its median is called unstable. For five runs this is about the limit of
#: pyperf, a standard deviation above a tenth of the mean: the range of five normal values is 2.3 deviations.
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
    """Return the median and range of those ``values`` that are finite numbers; None if there are none."""
    known = tuple(value for value in values if value is not None and math.isfinite(value))
    return Spread(median(known), min(known), max(known), known) if known else None


@dataclass(frozen=True, slots=True)
class VerdictTally:
    """The verdicts of all runs of one kind."""

    verdict: Verdict
    """The worst verdict."""
    expected: Verdict
    times: dict[Verdict, int]
    """How many runs had each verdict, the worst first."""
    as_expected: bool
    """Whether every run had the expected verdict."""

    @property
    def runs(self) -> int:
        """How many runs there were."""
        return sum(self.times.values())


def verdict_tally(runs: list[Run]) -> VerdictTally | None:
    """Return the verdicts of ``runs``, which are of one transport under one fault; None if there are none."""
    if not runs:
        return None
    counted = Counter(run.verdict for run in runs)
    times = {verdict: counted[verdict] for verdict in Verdict if counted[verdict]}
    return VerdictTally(next(iter(times)), runs[0].expected, times, all(run.as_expected for run in runs))


def transports(results: ComparisonResults) -> list[str]:
    """Return the transports in the order of the comparison."""
    return list(dict.fromkeys([*results.accepted_means, *(run.transport for run in _in_order(results.runs))]))


def faults(runs: list[Run]) -> list[str]:
    """Return the names of the faults that were injected."""
    return sorted({run.fault for run in runs if run.fault is not None})


def runs_of(
    runs: list[Run], transport: str, measure: RunKind | None = None, fault: str | None = None
) -> list[Run]:
    """Return the ``runs`` of a transport under ``fault`` (None: without a fault) in their order."""
    wanted = (run for run in runs if run.transport == transport and run.fault == fault)
    return _in_order(run for run in wanted if measure is None or run.measure is measure)


def spread_of(runs: list[Run], value: Callable[[Run], float | None]) -> Spread | None:
    """Return the median and range of one ``value`` of each run."""
    return spread(value(run) for run in runs)


def latency_of(runs: list[Run], value: Callable[[Latency], float]) -> Spread | None:
    """Return the median and range of one ``value`` of the runs whose latency was measured."""
    return spread(value(run.latency) for run in runs if run.latency)


def peak_memory(runs: list[Run]) -> dict[str, float]:
    """Return bytes by role: the most memory that a process of that role had in any run."""
    peaks: dict[str, float] = {}
    for usage in (run.usage for run in runs if run.usage):
        for role, size in usage.peak_memory.items():
            peaks[role] = max(size, peaks.get(role, 0))
    return peaks


def _in_order(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.order)


#: The first column of the grid of verdicts: runs without a fault.
NO_FAULT = Sentence("no fault")


@dataclass(frozen=True, slots=True)
class Row:
    """The numbers of one transport. What was not measured is None."""

    transport: str
    accepted: Spread | None
    eaten: Spread | None
    half: Spread | None
    """The median latency of each run."""
    p99: Spread | None
    slowest: Spread | None
    cpu: Spread | None
    memory: dict[str, float]


@dataclass(frozen=True, slots=True)
class Cell:
    """The verdicts of one transport under one fault."""

    transport: str
    fault: str
    tally: VerdictTally
    total: Mapping[str, int]
    """The counts of all its runs together, by their names: "attempted", "accepted", "lost" and so on."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many baozi one consumer ate, and on which machine if that is known."""

    consumer: str
    machine: str
    eaten: int


def rows(results: ComparisonResults) -> list[Row]:
    """Return a row for each transport that has run without a fault."""
    table = []
    for name in transports(results):
        flat_out = runs_of(results.runs, name, RunKind.FLAT_OUT)
        at_rate = runs_of(results.runs, name, RunKind.FIXED_RATE)
        if flat_out or at_rate:
            table.append(_row(name, flat_out, at_rate))
    return table


def _row(name: str, flat_out: list[Run], at_rate: list[Run]) -> Row:
    return Row(
        transport=name,
        accepted=spread_of(flat_out, lambda run: run.accepted_per_second),
        eaten=spread_of(flat_out, lambda run: run.eaten_per_second),
        half=latency_of(at_rate, lambda latency: latency.p50),
        p99=latency_of(at_rate, lambda latency: latency.p99),
        slowest=latency_of(at_rate, lambda latency: latency.max),
        cpu=spread_of(flat_out, lambda run: run.usage.cpu_seconds_per_10000 if run.usage else None),
        memory=peak_memory([*flat_out, *at_rate]),
    )


def columns(results: ComparisonResults) -> list[str]:
    """Return the columns of the grid: "no fault", if there are such runs, and each fault."""
    undisturbed = any(run.fault is None for run in results.runs)
    return [*([NO_FAULT] if undisturbed else []), *faults(results.runs)]


def grid(results: ComparisonResults) -> dict[str, list[Cell | None]]:
    """Return for each transport its cells, one for each of ``columns``; None where it has no run."""
    names = [name for name in transports(results) if any(run.transport == name for run in results.runs)]
    return {name: [_cell(results.runs, name, column) for column in columns(results)] for name in names}


def surprises(results: ComparisonResults) -> list[Cell]:
    """Return the cells in which a run had another verdict than expected, better or worse."""
    cells = [cell for line in grid(results).values() for cell in line if cell]
    return [cell for cell in cells if not cell.tally.as_expected]


def _cell(runs: list[Run], name: str, column: str) -> Cell | None:
    chosen = runs_of(runs, name, fault=None if column == NO_FAULT else column)
    tally = verdict_tally(chosen)
    if tally is None:
        return None
    total: Counter[str] = Counter()
    for run in chosen:
        total.update(run.counts.model_dump())
    return Cell(name, column, tally, total)


def shares(results: ComparisonResults) -> dict[str, list[Share]]:
    """Return how many baozi each consumer ate, by transport, in all runs without a fault."""
    eaten: dict[str, list[Share]] = {}
    for name in transports(results):
        total: Counter[str] = Counter()
        for run in runs_of(results.runs, name):
            total.update(run.eaten_by)
        if total:
            eaten[name] = [_share(who, number_) for who, number_ in sorted(total.items())]
    return eaten


def _share(who: str, eaten: int) -> Share:
    consumer, at, machine = who.rpartition("@")
    return Share(consumer, machine, eaten) if at else Share(who, "", eaten)
