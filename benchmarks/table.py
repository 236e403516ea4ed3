"""The tables of a run, for the terminal and for the page."""

from baozi import quantities
from baozi.tables import Column, Table
from benchmarks.results import UNITS, BenchmarkResults, Measure, Turn
from benchmarks.targets import TARGETS
from side_by_side.summary import spread

#: What a figure is that was not measured.
_NONE = "–"


def tables(results: BenchmarkResults) -> list[Table]:
    """Return, for each broker, a table for each measure, and one of the targets."""
    made = []
    for broker, its in results.each_broker.items():
        for measure in Measure:
            if its.contenders(measure):
                table = measure_table(its, measure)
                table.title = f"{broker}, {measure}: {UNITS[measure]}"
                made.append(table)
        targets = targets_table(its)
        targets.title = f"{broker}, targets"
        made.append(targets)
    return made


def measure_table(results: BenchmarkResults, measure: Measure) -> Table:
    """Return the table of one measure: the figures of each contender, its settings and its promise.

    A contender that was not measured has the reason instead of its promise. If only some of its turns have no
    result, that is added.
    """
    numbers = [Column(heading, right=True) for heading in _headings(measure)]
    table = Table("contender", *numbers, Column("settings", fold=True), Column("promises", fold=True))
    for name in results.contenders(measure):
        turns, gap = results.of(measure, name), results.gap(measure, name)
        row = turns[0] if turns else gap
        if row is None:
            continue
        said = row.promises
        if gap is not None:
            gaps = sum(1 for it in results.gaps if it.measure is measure and it.contender == name)
            verb = "failed" if gap.failed else "not measured"
            said = f"{verb}{f' in {gaps} turns' if turns else ''}: {gap.reason}"
        table.add_row(name, *_figures(turns, measure), row.settings, said)
    return table


def targets_table(results: BenchmarkResults) -> Table:
    """Return the table of all targets: met, missed, or not measured and why."""
    numbers = [Column(heading, right=True) for heading in ("wanted", "measured", "from", "to")]
    table = Table(Column("target", fold=True), *numbers, Column("result", fold=True))
    for target in TARGETS:
        ratio = target.ratio(results)
        if ratio is None:
            why = f"not measured: {target.why_not(results)}"
            table.add_row(target.what, target.wanted, *[_NONE] * 3, why)
        else:
            figures = [target.shown(value) for value in (ratio.median, ratio.low, ratio.high)]
            table.add_row(target.what, target.wanted, *figures, "met" if target.met(ratio) else "MISSED")
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
    figures = [show(value) for value in (rate.median, rate.low, rate.high)] if rate else [_NONE] * 3
    if measure is Measure.LATENCY:
        figures.append(show(p99.median) if p99 else _NONE)
    return figures
