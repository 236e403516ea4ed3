"""Counts the work that was done on several machines, from the journals that each machine has kept."""

import time
from collections.abc import Iterator
from pathlib import Path

from baozi.errors import UsageError
from baozi.journal import Event
from baozi.workload import Workload
from side_by_side import journal_analysis
from side_by_side.comparison_results import ComparisonResults, Run, RunKind, Verdict
from side_by_side.journal_analysis import JournalLine
from side_by_side.results import this_machine
from side_by_side.transports import TRANSPORTS


def gather(folder: Path, workload: Workload) -> ComparisonResults:
    """Return results from ``folder/TRANSPORT/MACHINE/…/NAME.journal``. A consumer is called ``NAME@MACHINE``.

    Each machine uses its own clock. If the clocks differ, latencies and rates are wrong by that difference.

    Args:
        folder: the journals of all machines.
        workload: the workload, the same on each transport.

    Raises:
        UsageError: there are no journals, one cannot be read, or its transport is unknown.
    """
    try:
        lines = {place.name: _lines(place) for place in sorted(folder.iterdir()) if place.is_dir()}
    except OSError as error:
        raise UsageError(
            "The journals in {folder} cannot be read: {strerror}.", folder=folder, strerror=error.strerror
        ) from None
    unknown = sorted(lines.keys() - TRANSPORTS.keys())
    if unknown:
        raise UsageError(
            "There is no transport {name!r}; there are {transports}.",
            name=unknown[0],
            transports=", ".join(TRANSPORTS),
        )
    runs = [_run(name, order, its) for order, (name, its) in enumerate(lines.items()) if its]
    if not runs:
        raise UsageError(
            "There are no journals in {folder}: it needs TRANSPORT/MACHINE/NAME.journal.", folder=folder
        )
    return ComparisonResults(
        made_at=time.time(),
        seed=0,
        finished=True,
        machine=this_machine(None),
        workload=workload,
        offered_per_second=0,
        repeat=1,
        accepted_means={run.transport: TRANSPORTS[run.transport].accepted_means for run in runs},
        runs=runs,
    )


def _lines(place: Path) -> list[JournalLine]:
    """Return the lines of one transport in order of time. The machine is part of each name."""
    return sorted(_named(place), key=lambda line: line.entry.at)


def _named(place: Path) -> Iterator[JournalLine]:
    for machine in place.iterdir():
        for line in journal_analysis.read_lines(machine):
            yield JournalLine(line.entry, f"{line.name}@{machine.name}")


def _run(transport: str, order: int, lines: list[JournalLine]) -> Run:
    counts = journal_analysis.count(line.entry for line in lines)
    seconds = lines[-1].entry.at - lines[0].entry.at
    return Run(
        transport=transport,
        measure=RunKind.ACROSS_MACHINES,
        repetition=0,
        order=order,
        counts=counts,
        verdict=journal_analysis.verdict(counts, ended=True),
        expected=Verdict.SOUND,
        seconds=seconds,
        accepted_per_second=journal_analysis.per_second(lines, Event.ACCEPTED),
        eaten_per_second=journal_analysis.per_second(lines, Event.EATEN),
        latency=journal_analysis.latency(lines),
        timeline=journal_analysis.timeline(lines, seconds),
        eaten_by=journal_analysis.eaten_by(lines),
        missed=journal_analysis.missed(lines),
    )
