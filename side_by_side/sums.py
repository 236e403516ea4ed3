"""The sums of one run, from its journals alone: counts, timeline, latency, who ate how many."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from baozi.journal import Entry, Event, read_journal
from side_by_side.results import Counts, Latency, Moment, Verdict

#: The first tenth of what was accepted or eaten is warm-up: connections open, caches fill.
_WARM_UP = 10
#: Moments of a timeline: enough for a smooth line.
_MOMENTS = 100
#: Points of a latency curve, denser towards the slow end, as an HDR histogram's are.
_PERCENTILES = (*range(0, 90, 5), *range(90, 100), 99.5, 99.9, 99.99, 100)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a journal, and in whose journal it stands."""

    entry: Entry
    name: str


def read_lines(folder: Path) -> list[Line]:
    """Return the lines of all journals below ``folder``, in the order of time.

    Raises:
        OSError: a journal cannot be read.
    """
    lines = [Line(entry, path.stem) for path in folder.rglob("*.journal") for entry in read_journal(path)]
    return sorted(lines, key=lambda line: line.entry.at)


def count(entries: Iterable[Entry]) -> Counts:
    """Do Jepsen's ``total-queue`` sums: what was eaten is a multiset, what was put is a set of ids.

    An id is put once, however often it was tried, so that each time more than once that it was eaten is one
    ``duplicated``. ``accepted - lost + recovered + unexpected`` is ``eaten``, the different ones.
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
    attempted |= accepted  # a torn line may have been the attempt's
    return Counts(
        attempted=len(attempted),
        accepted=len(accepted),
        eaten=len(eaten),
        lost=len(accepted - eaten.keys()),
        duplicated=eaten.total() - len(eaten),
        recovered=len((eaten.keys() & attempted) - accepted),
        unexpected=len(eaten.keys() - attempted),
    )


def missed(lines: Iterable[Line]) -> int:
    """Return how many lines could not be written to the journals, so that all other sums are wrong."""
    return sum(int(line.entry.baozi_id) for line in lines if line.entry.event is Event.MISSED)


def verdict(counts: Counts, ended: bool) -> Verdict:
    """Judge a run by its sums and by whether it ``ended`` of itself; the worst that applies."""
    if not ended:
        return Verdict.WEDGED
    if counts.lost:
        return Verdict.LOST
    if counts.duplicated or counts.unexpected:
        return Verdict.DUPLICATED
    return Verdict.SOUND


def per_second(lines: Iterable[Line], event: Event) -> float:
    """Return how many a second that ``event`` befell, the warm-up left out; 0 where there are too few."""
    times = [line.entry.at for line in lines if line.entry.event is event]
    times = times[len(times) // _WARM_UP :]
    if len(times) < 2 or times[-1] <= times[0]:
        return 0.0
    return (len(times) - 1) / (times[-1] - times[0])


def latency(lines: Iterable[Line]) -> Latency | None:
    """Return the seconds from attempted to first eaten; None where nothing was eaten."""
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
    """The nearest rank: a wait that some baozi truly had."""
    return ordered[round((len(ordered) - 1) * percent / 100)]


def timeline(lines: Sequence[Line], seconds: float) -> list[Moment]:
    """Return how many were accepted and eaten by so many evenly spaced moments of a run of ``seconds``."""
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


def eaten_by(lines: Iterable[Line]) -> dict[str, int]:
    """Return how many each consumer ate."""
    return dict(Counter(line.name for line in lines if line.entry.event is Event.EATEN))
