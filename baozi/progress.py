"""A producer's progress in its order, and the journals that record it."""

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

from baozi.errors import JournalAway, RunExists
from baozi.journal import Entry, Event, Journal, OrderEntry, OrderEvent, read_on
from baozi.model import NO_ORDER, Closing, Opening, new_order_id

#: The first and the last of consecutive numbers.
Range = tuple[int, int]


@dataclass(slots=True)
class Progress:
    """Which numbers of an order were attempted and accepted, over all sessions of the producer."""

    run: str
    producer: str
    attempted: int = 0
    """Numbers below this were attempted."""
    _settled: int = 0
    """All numbers below this were accepted."""
    _beyond: set[int] = field(default_factory=set)
    """Further accepted numbers. The broker may confirm messages in any sequence."""
    order_id: str = field(default_factory=new_order_id)
    """The order's id. It is empty for an order that an older release began."""
    session: int = 0
    """How often the order was opened."""
    closed_session: int = 0
    """The last session whose closing message the broker confirmed; 0 for none."""

    @property
    def accepted(self) -> int:
        """How many numbers were accepted."""
        return self._settled + len(self._beyond)

    @property
    def accepted_ranges(self) -> list[Range]:
        """The accepted numbers, as ascending ranges."""
        ranges = [(0, self._settled - 1)] if self._settled else []
        for number in sorted(self._beyond):
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        return ranges

    def accept(self, number: int) -> None:
        """Record that ``number`` was accepted."""
        self.attempted = max(self.attempted, number + 1)
        if number >= self._settled:
            self._beyond.add(number)
        while self._settled in self._beyond:
            self._beyond.remove(self._settled)
            self._settled += 1

    def accepts(self, number: int) -> bool:
        """Return whether ``number`` was accepted."""
        return number < self._settled or number in self._beyond

    def unknown(self) -> list[int]:
        """Return the numbers that were attempted and not accepted, in ascending order."""
        return [number for number in range(self._settled, self.attempted) if number not in self._beyond]

    def numbers(self, total: int) -> Iterator[int]:
        """Yield the numbers that must still be put. Those that were attempted and not accepted come first.

        Args:
            total: how many baozi the whole order has; 0 for no end.
        """
        yield from self.unknown()
        yield from range(self.attempted, total) if total else count(self.attempted)

    def opening(self) -> Opening:
        """Return the contents of the message that opens the order again."""
        return Opening(
            run=self.run,
            producer=self.producer,
            order=self.order_id,
            session=self.session,
            opened_at=time.time(),
        )

    def order(self) -> Closing:
        """Return the contents of the message that closes the order now."""
        if self.order_id == NO_ORDER:
            return Closing(
                run=self.run,
                producer=self.producer,
                accepted=self._settled,
                attempted=self.attempted,
                closed_at=time.time(),
            )
        fences = [(-1, -1), *self.accepted_ranges, (self.attempted, self.attempted)]
        gaps = ([before[1] + 1, after[0] - 1] for before, after in pairwise(fences))
        return Closing(
            run=self.run,
            producer=self.producer,
            accepted=self.accepted,
            attempted=self.attempted,
            closed_at=time.time(),
            order=self.order_id,
            session=max(self.session, 1),
            unknown=[gap for gap in gaps if gap[0] <= gap[1]],
        )

    def note(self, entry: Entry | OrderEntry) -> None:
        """Update this with one line of the producer's journal. Lines of other kinds change nothing."""
        if isinstance(entry, OrderEntry):
            if entry.event is OrderEvent.OPENED:
                self.order_id, self.session = entry.order, entry.session
            else:
                self.closed_session = entry.session
        elif entry.event is Event.ACCEPTED:
            self.accept(_number(entry))
        elif entry.event is Event.ATTEMPTED:
            self.attempted = max(self.attempted, _number(entry) + 1)

    def read_on(self, path: Path, start: int = 0) -> int:
        """Update this with the producer's journal from byte ``start``. Return the offset after the last line.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not a producer's journal.
        """
        for entry, end in read_on(path, start):
            self.note(entry)
            start = end
        if self.attempted and not self.session:
            self.order_id = NO_ORDER  # an older release began the order
        return start


def _number(entry: Entry) -> int:
    return int(entry.baozi_id.rpartition("/")[2])


@contextmanager
def own_journal(runs: Path, run: str, producer: str, resume: bool) -> Iterator[tuple[Journal, Progress]]:
    """Yield the journal of ``producer`` in ``run``, locked for this process, and the progress in it.

    Args:
        runs: the folder of all runs' journals.
        run: the run.
        producer: the producer.
        resume: whether to continue an existing journal.

    Raises:
        RunExists: the journal exists and ``resume`` is false, or another process has it open.
        JournalAway: the folder or the file cannot be used.
    """
    path = runs / run / f"{producer}.journal"
    with journal_errors():
        journal = Journal(path)
    with journal:
        try:
            # The kernel releases this lock when the process ends.
            fcntl.flock(journal.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunExists(
                "Another process is producer {producer} of run {run} at this moment.",
                producer=producer,
                run=run,
            ) from error
        with journal_errors():
            progress = Progress(run, producer)
            progress.read_on(path)
        if progress.attempted and not resume:
            raise RunExists(
                "{producer} has already worked in run {run}; resume it (--resume, in Python"
                " resume=True), or name another run.",
                producer=producer,
                run=run,
            )
        yield journal, progress


@contextmanager
def journal_errors() -> Iterator[None]:
    """In this block, replace errors of the journal's file by :class:`JournalAway`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise JournalAway("The journal cannot be written or read: {error}.", error=error) from error


class JournalReader:
    """Reads the journals of a run's producers, which say what was accepted."""

    def __init__(self, run: str, folders: Sequence[Path]) -> None:
        """Set the folders of the run's journals. Nothing is read yet."""
        self._run = run
        self._folders = folders
        self._read: dict[Path, tuple[Progress, int]] = {}

    def progress(self) -> list[Progress]:
        """Return the progress of each producer, from what its journal contains now.

        Raises:
            JournalAway: one cannot be read.
        """
        try:
            for path in sorted(path for folder in self._folders for path in folder.glob("*.journal")):
                progress, start = self._read.get(path) or (Progress(self._run, path.stem), 0)
                self._read[path] = progress, progress.read_on(path, start)
        except (OSError, ValueError) as error:
            raise JournalAway("A producer's journal cannot be read: {error}.", error=error) from error
        return [progress for progress, _ in self._read.values() if progress.attempted or progress.session]
