"""What the report's tables say, row by row."""

from collections import Counter
from dataclasses import dataclass

from side_by_side.quantities import number
from side_by_side.results import Measure, Results, Run
from side_by_side.summary import (
    Outcome,
    Spread,
    count_of,
    faults,
    latency_of,
    outcome,
    peak_memory,
    runs_of,
    spread_of,
    transports,
)

#: The first column of the grid of verdicts: runs in which nothing was broken.
NO_FAULT = "no fault"


@dataclass(frozen=True, slots=True)
class Row:
    """One transport in numbers; what was not measured is ``None``."""

    transport: str
    accepted: Spread | None
    eaten: Spread | None
    half: Spread | None
    """The latency's median, of each run."""
    p99: Spread | None
    slowest: Spread | None
    cpu: Spread | None
    memory: dict[str, float]


@dataclass(frozen=True, slots=True)
class Cell:
    """What one transport makes of one fault."""

    transport: str
    fault: str
    outcome: Outcome
    losses: list[str]
    """Such as "300 lost"; nothing where nothing is amiss."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many baozi one consumer ate, and on which machine if that is known."""

    consumer: str
    machine: str
    eaten: int


def rows(results: Results) -> list[Row]:
    """One row for each transport that has run without a fault."""
    table = []
    for name in transports(results):
        flat_out = runs_of(results.runs, name, Measure.FLAT_OUT)
        at_rate = runs_of(results.runs, name, Measure.FIXED_RATE)
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


def columns(results: Results) -> list[str]:
    """The grid's columns: no fault, where such runs are, and each fault."""
    undisturbed = any(run.fault is None for run in results.runs)
    return [*([NO_FAULT] if undisturbed else []), *faults(results.runs)]


def grid(results: Results) -> dict[str, list[Cell | None]]:
    """For each transport that has run, a cell in each of ``columns``; ``None`` where it did not."""
    names = [name for name in transports(results) if any(run.transport == name for run in results.runs)]
    return {name: [_cell(results.runs, name, column) for column in columns(results)] for name in names}


def surprises(results: Results) -> list[Cell]:
    """The cells in which a run's verdict was other than expected, better or worse."""
    cells = [cell for line in grid(results).values() for cell in line if cell]
    return [cell for cell in cells if not cell.outcome.as_expected]


def _cell(runs: list[Run], name: str, column: str) -> Cell | None:
    chosen = runs_of(runs, name, fault=None if column == NO_FAULT else column)
    became = outcome(chosen)
    if became is None:
        return None
    sums = {
        "lost": count_of(chosen, lambda counts: counts.lost),
        "eaten twice": count_of(chosen, lambda counts: counts.duplicated),
        "recovered": count_of(chosen, lambda counts: counts.recovered),
        "unexpected": count_of(chosen, lambda counts: counts.unexpected),
    }
    return Cell(
        name,
        column,
        became,
        [f"{_range(sum_)} {word}" for word, sum_ in sums.items() if sum_ and sum_.high > 0],
    )


def _range(spread: Spread) -> str:
    if spread.low == spread.high:
        return number(spread.low)
    return f"{number(spread.low)}–{number(spread.high)}"


def shares(results: Results) -> dict[str, list[Share]]:
    """Who ate how many of each transport's baozi, in all its runs without a fault."""
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
