"""The sums of work that was done across machines, from the journals that each machine kept."""

import time
from collections.abc import Iterator
from pathlib import Path

from baozi.errors import UsageError
from baozi.journal import Event
from baozi.workload import Workload
from side_by_side import sums
from side_by_side.machine import this_machine
from side_by_side.results import Measure, Results, Run, Verdict
from side_by_side.sums import Line
from side_by_side.transports import TRANSPORTS


def gather(folder: Path, workload: Workload) -> Results:
    """Do the sums over ``folder/TRANSPORT/MACHINE/…/NAME.journal``; who ate what is ``NAME@MACHINE``.

    Each machine writes down the time by its own clock: latencies and rates are as good as their agreement.

    Args:
        folder: all machines' journals, brought together.
        workload: what was to be done, the same on each transport.

    Raises:
        UsageError: there are no journals, or of a transport that is not known, or they cannot be read.
    """
    try:
        lines = {place.name: _lines(place) for place in sorted(folder.iterdir()) if place.is_dir()}
    except OSError as error:
        raise UsageError(f"The journals in {folder} cannot be read: {error.strerror}.") from None
    unknown = sorted(lines.keys() - TRANSPORTS.keys())
    if unknown:
        raise UsageError(f"There is no transport {unknown[0]!r}; there are {', '.join(TRANSPORTS)}.")
    runs = [_run(name, order, its) for order, (name, its) in enumerate(lines.items()) if its]
    if not runs:
        raise UsageError(f"There are no journals in {folder}: it needs TRANSPORT/MACHINE/NAME.journal.")
    return Results(
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


def _lines(place: Path) -> list[Line]:
    """The lines of one transport, each with its machine after its name, in the order of time."""
    return sorted(_named(place), key=lambda line: line.entry.at)


def _named(place: Path) -> Iterator[Line]:
    for machine in place.iterdir():
        for line in sums.read_lines(machine):
            yield Line(line.entry, f"{line.name}@{machine.name}")


def _run(transport: str, order: int, lines: list[Line]) -> Run:
    counts = sums.count(line.entry for line in lines)
    seconds = lines[-1].entry.at - lines[0].entry.at
    return Run(
        transport=transport,
        measure=Measure.ACROSS_MACHINES,
        repetition=0,
        order=order,
        counts=counts,
        verdict=sums.verdict(counts, ended=True),
        expected=Verdict.SOUND,
        seconds=seconds,
        accepted_per_second=sums.per_second(lines, Event.ACCEPTED),
        eaten_per_second=sums.per_second(lines, Event.EATEN),
        latency=sums.latency(lines),
        timeline=sums.timeline(lines, seconds),
        eaten_by=sums.eaten_by(lines),
        missed=sums.missed(lines),
    )
