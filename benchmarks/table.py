"""The tables of a run, for the terminal."""

from rich.box import SIMPLE_HEAD

from baozi.tables import Table
from benchmarks.results import UNITS, BenchmarkResults, Measure, Turn
from benchmarks.targets import TARGETS
from side_by_side import quantities
from side_by_side.summary import spread


def tables(results: BenchmarkResults) -> list[Table]:
    """Return a table for each measure, and one of the targets."""
    made = [_table(results, measure) for measure in Measure if results.contenders(measure)]
    return [*made, _targets(results)]


def _table(results: BenchmarkResults, measure: Measure) -> Table:
    table = Table(box=SIMPLE_HEAD, title=f"{measure}: {UNITS[measure]}", title_justify="left")
    table.add_column("contender", no_wrap=True)
    for heading in headings(measure):
        table.add_column(heading, justify="right")
    table.add_column("promises")
    for name in results.contenders(measure):
        turns = results.of(measure, name)
        table.add_row(name, *figures(turns, measure), turns[0].promises)
    return table


def headings(measure: Measure) -> list[str]:
    """Return the headings of what :func:`figures` returns."""
    return ["median", "from", "to", *(["99th percentile"] if measure is Measure.LATENCY else [])]


def figures(turns: list[Turn], measure: Measure) -> list[str]:
    """Return the figures of one contender's ``turns``: median, least, most, and for latencies one more."""
    show = {Measure.LATENCY: quantities.seconds, Measure.MEMORY: quantities.memory}.get(
        measure, quantities.number
    )
    rate = spread(turn.value for turn in turns)
    p99 = spread(turn.p99 for turn in turns)
    figures = [show(rate.median), show(rate.low), show(rate.high)] if rate else ["–"] * 3
    return figures + ([show(p99.median)] if p99 else [])


def _targets(results: BenchmarkResults) -> Table:
    table = Table(box=SIMPLE_HEAD, title="targets", title_justify="left")
    for heading in ("what", "wanted", "measured", ""):
        table.add_column(heading, no_wrap=heading == "what")
    for target in TARGETS:
        ratio = target.ratio(results)
        if ratio is not None:
            met = "met" if target.met(ratio) else "not met"
            table.add_row(target.what, target.wanted, target.shown(ratio), met)
    return table
