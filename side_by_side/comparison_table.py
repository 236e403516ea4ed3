"""The tables that ``baozi compare`` prints, within 100 columns. They are made from the results alone."""

from rich import box

from baozi.tables import Table
from side_by_side.comparison_results import ComparisonResults, Run, RunKind
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.quantities import memory, number, seconds
from side_by_side.summary import (
    Spread,
    latency_of,
    peak_memory,
    runs_of,
    spread_of,
    transports,
    verdict_tally,
)


def verdict_table(results: ComparisonResults) -> Table:
    """Return a table with the verdict of each transport, without a fault and under each fault."""
    table = _table("what becomes of the baozi")
    columns = ("no fault", *COMPARE_FAULTS)
    for column in columns:
        table.add_column(column.replace("kill-", "kill-\n") if column.startswith("kill") else column)
    for name in transports(results):
        cells = [_verdicts(runs_of(results.runs, name, None, None))]
        cells += [_verdicts(runs_of(results.runs, name, RunKind.FAULT, fault)) for fault in COMPARE_FAULTS]
        table.add_row(name, *cells)
    return table


def speed_table(results: ComparisonResults) -> Table:
    """Return a table with the speed, processor time and memory of each transport."""
    table = _table("how fast")
    headings = (
        "accepted/s",
        "eaten/s",
        "p50",
        "p99",
        "max",
        "CPU s per\n10,000",
        "most memory\nof a process",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for name in transports(results):
        flat = runs_of(results.runs, name, RunKind.FLAT_OUT)
        fixed = runs_of(results.runs, name, RunKind.FIXED_RATE)
        if not flat and not fixed:
            continue
        waits = [
            latency_of(fixed, value) for value in (lambda it: it.p50, lambda it: it.p99, lambda it: it.max)
        ]
        table.add_row(
            name,
            _rate(spread_of(flat, lambda run: run.accepted_per_second)),
            _rate(spread_of(flat, lambda run: run.eaten_per_second)),
            *("–" if wait is None else seconds(wait.median) for wait in waits),
            _cpu(flat),
            memory(max(peak_memory(flat).values(), default=0)),
        )
    return table


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
        f"Latency: from attempted to eaten, at {number(results.offered_per_second)} a second in all.",
        "Accepted means:",
    ]
    return lines + [f"  {name}: {meaning}" for name, meaning in results.accepted_means.items()]


def _table(first: str) -> Table:
    table = Table(first, box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.columns[0].no_wrap = True
    return table


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


def _rate(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    line = f"{number(spread.median)}\n{number(spread.low)} to {number(spread.high)}"
    return f"{line}\nunstable" if spread.unstable else line


def _cpu(runs: list[Run]) -> str:
    spread = spread_of(runs, lambda run: run.usage.cpu_seconds_per_10000 if run.usage else None)
    return "–" if spread is None else number(spread.median)
