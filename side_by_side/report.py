"""Makes ``report.html``: a comparison in one file that opens offline, in the reader's language.

It is made from the results alone.
"""

import os
from contextlib import suppress
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from baozi import quantities
from baozi.errors import UsageError
from baozi.language import Sentence, listed, speaks_english, translated
from side_by_side import findings, summary
from side_by_side.charts import latency, throughput, timeline
from side_by_side.comparison_results import ComparisonResults


def write_report(results: ComparisonResults, path: Path) -> None:
    """Write the report of ``results`` to ``path``, completely or not at all.

    Raises:
        UsageError: it cannot be written there.
    """
    page = _page(results)
    try:
        _replace(path, page)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError("The report {path} cannot be written: {reason}.", path=path, reason=reason) from None


def _page(results: ComparisonResults) -> str:
    environment = Environment(
        loader=PackageLoader("side_by_side"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": quantities.number,
        "seconds": quantities.seconds,
        "memory": quantities.memory,
        "count": quantities.count,
        "date": quantities.date,
    }
    environment.globals |= {
        "number": quantities.number,
        "seconds": quantities.seconds,
        "interval": quantities.interval,
        "_": translated,
    }
    return environment.get_template("report.html").render(
        language="en" if speaks_english() else "zh-CN",
        results=results,
        versions=listed(_versions(results)),
        tallied=_tallied,
        rows=summary.rows(results),
        columns=summary.columns(results),
        grid=summary.grid(results),
        surprises=summary.surprises(results),
        shares=summary.shares(results),
        throughput=throughput.throughput(results),
        latency=latency.latency(results),
        timeline=timeline.timeline(results),
        unstable_above=summary.UNSTABLE_ABOVE,
        has_recovered=any(run.counts.recovered for run in results.runs),
        findings=findings.findings(results),
        advice=findings.repeat_advice(results),
        accepted_below_eaten=findings.accepted_below_eaten(results),
        why_not_run=findings.why_not_run,
        meanings=findings.transport_meanings(results),
        faults=findings.fault_meanings(results),
    )


def _versions(results: ComparisonResults) -> list[str]:
    machine = results.machine
    return [f"Python {machine.python}", *(f"{name} {version}" for name, version in machine.versions.items())]


def _tallied(tally: summary.VerdictTally) -> Sentence:
    """Return how many runs had which verdict."""
    return listed(
        (
            Sentence("{times} {verdict}", times=times, verdict=verdict)
            for verdict, times in tally.times.items()
        ),
    )


def _replace(path: Path, page: str) -> None:
    """Write a file beside ``path`` and rename it, so that the report is complete whenever it is opened."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
