"""The tables of a run, for the terminal and for the page."""

from baozi import quantities
from baozi.tables import Column, Table
from benchmarks.results import UNITS, BenchmarkResults, Measure, Turn
from benchmarks.targets import TARGETS
from side_by_side.summary import spread


def tables(results: BenchmarkResults) -> list[Table]:
    """Return a table for each measure, and one of the targets."""
    made = [measure_table(results, measure) for measure in Measure if results.contenders(measure)]
    return [*made, targets_table(results)]


def measure_table(results: BenchmarkResults, measure: Measure) -> Table:
    """Return the table of one measure: the figures of each contender, and what each promises."""
    numbers = [Column(heading, right=True) for heading in _headings(measure)]
    title = f"{measure}: {UNITS[measure]}"
    table = Table("contender", *numbers, Column("promises", fold=True), title=title)
    for name in results.contenders(measure):
        turns = results.of(measure, name)
        table.add_row(name, *_figures(turns, measure), turns[0].promises)
    return table


def targets_table(results: BenchmarkResults) -> Table:
    """Return the table of the targets that were measured."""
    table = Table("target", Column("wanted", fold=True), "measured", "result", title="targets")
    for target in TARGETS:
        ratio = target.ratio(results)
        if ratio is not None:
            met = "met" if target.met(ratio) else "not met"
            table.add_row(target.what, target.wanted, target.shown(ratio), met)
    return table


def _headings(measure: Measure) -> list[str]:
    return ["median", "from", "to", *(["99th percentile"] if measure is Measure.LATENCY else [])]


def _figures(turns: list[Turn], measure: Measure) -> list[str]:
    """Return the figures of one contender's ``turns``: median, least, most, and for latencies one more."""
    show = {Measure.LATENCY: quantities.seconds, Measure.MEMORY: quantities.memory}.get(
        measure, quantities.number
    )
    rate = spread(turn.value for turn in turns)
    p99 = spread(turn.p99 for turn in turns)
    figures = [show(rate.median), show(rate.low), show(rate.high)] if rate else ["–"] * 3
    return figures + ([show(p99.median)] if p99 else [])
