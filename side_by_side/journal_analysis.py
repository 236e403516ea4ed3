"""What the journals of a run tell: counts, verdict, rates, latency, timeline, and what each consumer ate."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from baozi.journal import Entry, Event, read_journal
from side_by_side.comparison_results import Counts, Latency, Moment, Verdict

#: The first tenth of the events is warm-up: connections are opened, caches are filled.
_WARM_UP = 10
#: Number of moments in a timeline: enough for a smooth line.
_MOMENTS = 100
#: Points of a latency curve. Like those of an HDR histogram, they are denser towards the slow end.
_PERCENTILES = (*range(0, 90, 5), *range(90, 100), 99.5, 99.9, 99.99, 100)


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A line of a journal, and the name of its producer or consumer."""

    entry: Entry
    name: str


def read_lines(folder: Path) -> list[JournalLine]:
    """Return the lines of all journals below ``folder``, in order of time.

    Raises:
        OSError: a journal cannot be read.
    """
    lines = [
        JournalLine(entry, path.stem) for path in folder.rglob("*.journal") for entry in read_journal(path)
    ]
    return sorted(lines, key=lambda line: line.entry.at)


def count(entries: Iterable[Entry]) -> Counts:
    """Count as Jepsen's ``total-queue`` checker does: eaten ids are a multiset, put ids are a set.

    However often an id was put, it may be eaten once: each further time counts as ``duplicated``. ``eaten``
    is the number of different ids, and equals ``accepted - lost + recovered + unexpected``.
    """
    attempted: set[str] = set()
    accepted: set[str] = set()
    eaten: Counter[str] = Counter()
    for entry in entries:
        match entry.event:
            case Event.ATTEMPTED:
                attempted.add(entry.baozi_id)
            case Event.ACCEPTED:
                accepted.add(entry.baozi_id)
            case Event.EATEN:
                eaten[entry.baozi_id] += 1
    attempted |= accepted  # the line of the attempt may have been cut off
    return Counts(
        attempted=len(attempted),
        accepted=len(accepted),
        eaten=len(eaten),
        lost=len(accepted - eaten.keys()),
        duplicated=eaten.total() - len(eaten),
        recovered=len((eaten.keys() & attempted) - accepted),
        unexpected=len(eaten.keys() - attempted),
    )


def missed(lines: Iterable[JournalLine]) -> int:
    """Return how many lines could not be written to the journals. If there are any, all counts are wrong."""
    return sum(int(line.entry.baozi_id) for line in lines if line.entry.event is Event.MISSED)


def verdict(counts: Counts, ended: bool) -> Verdict:
    """Return the worst verdict that applies to the counts; ``ended`` is whether the run ended by itself."""
    if not ended:
        return Verdict.WEDGED
    if counts.lost:
        return Verdict.LOST
    if counts.duplicated or counts.unexpected:
        return Verdict.DUPLICATED
    return Verdict.SOUND


def per_second(lines: Iterable[JournalLine], event: Event) -> float:
    """Return how often per second ``event`` happened, without the warm-up; 0 if it happened too seldom."""
    times = [line.entry.at for line in lines if line.entry.event is event]
    times = times[len(times) // _WARM_UP :]
    if len(times) < 2 or times[-1] <= times[0]:
        return 0.0
    return (len(times) - 1) / (times[-1] - times[0])


def latency(lines: Iterable[JournalLine]) -> Latency | None:
    """Return the seconds from attempted to first eaten; None if nothing was eaten."""
    attempted: dict[str, float] = {}
    eaten: dict[str, float] = {}
    for line in lines:
        first = {Event.ATTEMPTED: attempted, Event.EATEN: eaten}.get(line.entry.event)
        if first is not None:
            first.setdefault(line.entry.baozi_id, line.entry.at)
    waits = sorted(at - attempted[baozi_id] for baozi_id, at in eaten.items() if baozi_id in attempted)
    if not waits:
        return None
    times = list(attempted.values())
    span = times[-1] - times[0]
    return Latency(
        offered_per_second=(len(times) - 1) / span if span > 0 else 0.0,
        p50=_percentile(waits, 50),
        p99=_percentile(waits, 99),
        max=waits[-1],
        curve=[(float(percent), _percentile(waits, percent)) for percent in _PERCENTILES],
    )


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest rank: a time that was measured, not one between two."""
    return ordered[round((len(ordered) - 1) * percent / 100)]


def timeline(lines: Sequence[JournalLine], seconds: float) -> list[Moment]:
    """Return how many were accepted and eaten at each of 101 evenly spaced moments of a run."""
    if not lines or seconds <= 0:
        return []
    start = lines[0].entry.at
    moments, accepted, eaten, place = [], 0, 0, 0
    for number in range(_MOMENTS + 1):
        at = seconds * number / _MOMENTS
        while place < len(lines) and lines[place].entry.at - start <= at:
            accepted += lines[place].entry.event is Event.ACCEPTED
            eaten += lines[place].entry.event is Event.EATEN
            place += 1
        moments.append(Moment(at=round(at, 6), accepted=accepted, eaten=eaten))
    return moments


def eaten_by(lines: Iterable[JournalLine]) -> dict[str, int]:
    """Return how many each consumer ate."""
    return dict(Counter(line.name for line in lines if line.entry.event is Event.EATEN))
