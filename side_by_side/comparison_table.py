"""The tables that ``baozi compare`` prints, within 80 columns. They are made from the results alone."""

from baozi.language import Sentence, listed, translated
from baozi.quantities import memory, number, seconds
from baozi.tables import Column, Table
from side_by_side.comparison_results import ComparisonResults, Run, RunKind
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.findings import repeat_advice
from side_by_side.summary import NO_FAULT, Spread, rows, runs_of, transports, verdict_tally


def verdict_table(results: ComparisonResults) -> Table:
    """Return a table with the verdict of each transport, without a fault and under each fault."""
    table = Table(translated("what becomes of the baozi"), translated(NO_FAULT), *COMPARE_FAULTS)
    for name in transports(results):
        cells = [_verdicts(runs_of(results.runs, name, None, None))]
        cells += [_verdicts(runs_of(results.runs, name, RunKind.FAULT, fault)) for fault in COMPARE_FAULTS]
        table.add_row(name, *cells)
    return table


def speed_tables(results: ComparisonResults) -> list[Table]:
    """Return a table of the flat-out runs and one of the runs at a fixed rate, if there are such runs."""
    rate = number(results.offered_per_second)
    flat_out = _numbers(
        translated("how fast"),
        translated("accepted/s"),
        translated("eaten/s"),
        translated("CPU s per 10,000"),
        translated("peak memory"),
    )
    at_rate = _numbers(translated("latency at {rate}/s", rate=rate), "p50", "p99", "max")
    for row in rows(results):
        if row.accepted and row.eaten:
            cpu = "–" if row.cpu is None else number(row.cpu.median)
            peak = memory(max(row.memory.values(), default=0))
            flat_out.add_row(row.transport, _rate(row.accepted), _rate(row.eaten), cpu, peak)
        if row.half and row.p99 and row.slowest:
            at_rate.add_row(row.transport, *(seconds(it.median) for it in (row.half, row.p99, row.slowest)))
    return [table for table in (flat_out, at_rate) if table.rows]


def remarks(results: ComparisonResults) -> list[Sentence]:
    """Return a sentence for each run whose verdict was not the expected one or could not be found."""
    return [_remark(run) for run in results.runs if not run.as_expected]


def _remark(run: Run) -> Sentence:
    of = run_title(run)
    if run.missed:
        return Sentence(
            "{run}: {count} lines could not be written to the journals, so its counts are wrong.",
            run=of,
            count=run.missed,
        )
    return Sentence(
        "{run}: {verdict} instead of {expected} ({accepted} accepted, {eaten} eaten, {lost} lost,"
        " {duplicated} duplicated){error}",
        run=of,
        verdict=run.verdict,
        expected=run.expected,
        accepted=run.counts.accepted,
        eaten=run.counts.eaten,
        lost=run.counts.lost,
        duplicated=run.counts.duplicated,
        error=Sentence(": {error}", error=run.error) if run.error else Sentence("."),
    )


def run_title(run: Run) -> Sentence:
    """Return the transport, and the fault or the kind of the run."""
    return listed((run.transport, run.fault or run.measure))


def legend(results: ComparisonResults) -> list[Sentence]:
    """Return lines that say what the words of the tables mean in this comparison."""
    work = results.workload
    lines = [
        Sentence(
            "Flat out: {producers} producers make {each} each, {consumers} consumers eat; median of {repeat},"
            " and its range.",
            producers=len(work.producers),
            each=work.per_producer,
            consumers=len(work.consumers),
            repeat=results.repeat,
        ),
        Sentence("Latency: from attempted to eaten."),
        *([advice] if (advice := repeat_advice(results)) else []),
        Sentence("Accepted means:"),
    ]
    return lines + [
        Sentence("  {transport}: {meaning}", transport=name, meaning=Sentence(meaning))
        for name, meaning in results.accepted_means.items()
    ]


def _numbers(first: str, *headings: str) -> Table:
    return Table(first, *(Column(heading, right=True) for heading in headings))


def _verdicts(runs: list[Run]) -> str:
    """Return the worst verdict, how many runs had which, and "(!)" if one was not expected."""
    tally = verdict_tally(runs)
    if tally is None:
        return "–"
    shown = ", ".join(
        translated(verdict) + (f" {times}" if len(tally.times) > 1 else "")
        for verdict, times in tally.times.items()
    )
    return shown if tally.as_expected else f"{shown} (!)"


def _rate(spread: Spread) -> str:
    """Return the median and, if it was measured several times, the range. An unstable median is left out."""
    between = translated("{first} to {last}", first=number(spread.low), last=number(spread.high))
    if spread.unstable:
        return f"{between}\n{translated('unstable')}"
    return number(spread.median) if spread.low == spread.high else f"{number(spread.median)}\n{between}"
