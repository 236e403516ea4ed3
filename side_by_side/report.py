"""Makes ``report.html``: a comparison in one file that opens offline, made from the results alone."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from baozi import quantities
from baozi.errors import UsageError
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
        raise UsageError(f"The report {path} cannot be written: {reason}.") from None


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
        "moment": _moment,
    }
    environment.globals |= {
        "number": quantities.number,
        "seconds": quantities.seconds,
        "interval": quantities.interval,
    }
    return environment.get_template("report.html").render(
        results=results,
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


def _moment(epoch: float) -> str:
    try:
        return f"{datetime.fromtimestamp(epoch, UTC):%d %B %Y, %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{epoch:g} s after 1970"


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
