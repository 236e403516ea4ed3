"""What the lesson knows of a run: the lines of its journals, as small as a page needs them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from baozi.journal import Entry, Event
from side_by_side.comparison_results import Counts, Verdict
from side_by_side.journal_analysis import JournalLine
from side_by_side.results import Machine, ResultModel

#: The version of the recording's form. It rises with each change.
FORMAT: Literal[1] = 1


#: What moves a token.
_MOVING = frozenset({Event.ATTEMPTED, Event.ACCEPTED, Event.STARTED, Event.EATEN})

#: Seconds from the first line, what happened, the item's producer, its number from 0, and who wrote the line.
Line = tuple[float, Event, str, int, str]


class RecordedWork(ResultModel):
    """The work of a run. A token of the page is one item: a baozi, or a tray of them."""

    producers: list[str]
    consumers: list[str]
    items: int
    """Items that each producer makes."""
    tray: int
    """Baozi in an item."""
    capacity: int | None


class RecordedKill(ResultModel):
    """The process that was killed; times in seconds from the run's first line."""

    at: float
    role: str
    name: str
    back_at: float | None
    """When it had been started again, if it was."""


class RecordedRun(ResultModel):
    """One run: every line of its journals, and what its audit says."""

    failure: str
    transport: str
    without: str | None
    """The setting that was removed."""
    work: RecordedWork
    lines: list[Line]
    """Every line that moves a token, in order of time."""
    kill: RecordedKill | None
    seconds: float
    """How long the run took. A wedged run was ended after seconds in which nothing happened."""
    counts: Counts
    """The audit's row, in baozi."""
    verdict: Verdict


class RecordedLesson(ResultModel):
    """All runs of the lesson."""

    format: Literal[1] = FORMAT
    made_at: float
    machine: Machine
    runs: list[RecordedRun]


def of_items(lines: Sequence[JournalLine], tray: int) -> Iterator[Line]:
    """Yield a line for each item: a tray of so many baozi, all of them whole.

    A tray is put and taken as a whole. It is eaten when the last of its baozi is eaten.
    """
    times_eaten: Counter[tuple[str, int]] = Counter()
    for line in lines:
        event = line.entry.event
        if event not in _MOVING:
            continue
        producer, number = _of(line.entry)
        item = number // tray
        if event is Event.EATEN:
            times_eaten[producer, item] += 1
            moves = times_eaten[producer, item] % tray == 0
        else:
            moves = number % tray == 0
        if moves:
            yield round(line.entry.at - lines[0].entry.at, 4), event, producer, item, line.name


def _of(entry: Entry) -> tuple[str, int]:
    _, producer, number = entry.baozi_id.rsplit("/", 2)
    return producer, int(number)
