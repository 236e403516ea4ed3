"""The tables that ``baozi compare`` prints, within 80 columns. They are made from the results alone."""

from baozi.quantities import memory, number, seconds
from baozi.tables import Column, Table
from side_by_side.comparison_results import ComparisonResults, Run, RunKind
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.findings import repeat_advice
from side_by_side.summary import Spread, rows, runs_of, transports, verdict_tally


def verdict_table(results: ComparisonResults) -> Table:
    """Return a table with the verdict of each transport, without a fault and under each fault."""
    table = Table("what becomes of the baozi", "no fault", *COMPARE_FAULTS)
    for name in transports(results):
        cells = [_verdicts(runs_of(results.runs, name, None, None))]
        cells += [_verdicts(runs_of(results.runs, name, RunKind.FAULT, fault)) for fault in COMPARE_FAULTS]
        table.add_row(name, *cells)
    return table


def speed_tables(results: ComparisonResults) -> list[Table]:
    """Return a table of the flat-out runs and one of the runs at a fixed rate, if there are such runs."""
    rate = number(results.offered_per_second)
    flat_out = _numbers("how fast", "accepted/s", "eaten/s", "CPU s per 10,000", "peak memory")
    at_rate = _numbers(f"latency at {rate}/s", "p50", "p99", "max")
    for row in rows(results):
        if row.accepted and row.eaten:
            cpu = "–" if row.cpu is None else number(row.cpu.median)
            peak = memory(max(row.memory.values(), default=0))
            flat_out.add_row(row.transport, _rate(row.accepted), _rate(row.eaten), cpu, peak)
        if row.half and row.p99 and row.slowest:
            at_rate.add_row(row.transport, *(seconds(it.median) for it in (row.half, row.p99, row.slowest)))
    return [table for table in (flat_out, at_rate) if table.rows]


def remarks(results: ComparisonResults) -> list[str]:
    """Return a sentence for each run whose verdict was not the expected one or could not be found."""
    return [_remark(run) for run in results.runs if not run.as_expected]


def _remark(run: Run) -> str:
    of = f"{run.transport}, {run.fault or run.measure}"
    if run.missed:
        return f"{of}: {run.missed} lines could not be written to the journals, so its counts are wrong."
    return (
        f"{of}: {run.verdict} instead of {run.expected}"
        f" ({run.counts.accepted} accepted, {run.counts.eaten} eaten, {run.counts.lost} lost,"
        f" {run.counts.duplicated} duplicated){': ' + run.error if run.error else '.'}"
    )


def legend(results: ComparisonResults) -> list[str]:
    """Return lines that say what the words of the tables mean in this comparison."""
    work = results.workload
    lines = [
        f"Flat out: {len(work.producers)} producers make {work.per_producer} each,"
        f" {len(work.consumers)} consumers eat; median of {results.repeat}, and its range.",
        "Latency: from attempted to eaten.",
        *([advice] if (advice := repeat_advice(results)) else []),
        "Accepted means:",
    ]
    return lines + [f"  {name}: {meaning}" for name, meaning in results.accepted_means.items()]


def _numbers(first: str, *headings: str) -> Table:
    return Table(first, *(Column(heading, right=True) for heading in headings))


def _verdicts(runs: list[Run]) -> str:
    """Return the worst verdict, how many runs had which, and "(!)" if one was not expected."""
    tally = verdict_tally(runs)
    if tally is None:
        return "–"
    shown = ", ".join(
        verdict.value + (f" {times}" if len(tally.times) > 1 else "")
        for verdict, times in tally.times.items()
    )
    return shown if tally.as_expected else f"{shown} (!)"


def _rate(spread: Spread) -> str:
    """Return the median and, if it was measured several times, the range. An unstable median is left out."""
    between = f"{number(spread.low)} to {number(spread.high)}"
    if spread.unstable:
        return f"{between}\nunstable"
    return number(spread.median) if spread.low == spread.high else f"{number(spread.median)}\n{between}"
