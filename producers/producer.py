"""A producer: makes baozi one by one, puts each, and remembers in a journal what was accepted."""

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from threading import Event as Flag

from baozi.errors import JournalAway, RunExists
from baozi.journal import Event, Journal, read_journal
from baozi.model import Baozi, Order, Tray
from baozi.settings import Settings
from producers.publisher import Publisher


@dataclass(slots=True)
class Progress:
    """How far a producer's order has come, over all its sessions in a run."""

    run: str
    producer: str
    attempted: int = 0
    """Numbers below this were attempted."""
    _settled: int = 0
    """Numbers below this were accepted, and so were those in ``_beyond``: confirms come in any order."""
    _beyond: set[int] = field(default_factory=set)

    @property
    def accepted(self) -> int:
        """How many were accepted."""
        return self._settled + len(self._beyond)

    def accept(self, number: int) -> None:
        """Note that ``number`` was accepted."""
        self.attempted = max(self.attempted, number + 1)
        if number >= self._settled:
            self._beyond.add(number)
        while self._settled in self._beyond:
            self._beyond.remove(self._settled)
            self._settled += 1

    def numbers(self, total: int) -> Iterator[int]:
        """Yield what is still to be put, of ``total`` in all (0: without an end): first, what was attempted
        and not accepted.
        """
        yield from [number for number in range(self._settled, self.attempted) if number not in self._beyond]
        yield from range(self.attempted, total) if total else count(self.attempted)

    def order(self) -> Order:
        """The order as it stands, closed now."""
        return Order(
            run=self.run,
            producer=self.producer,
            accepted=self._settled,
            attempted=self.attempted,
            closed_at=time.time(),
        )


@contextmanager
def own_journal(runs: Path, run: str, producer: str, resume: bool) -> Iterator[tuple[Journal, Progress]]:
    """Yield the journal of ``producer`` in ``run``, locked for this process, and the progress that it tells.

    Args:
        runs: the folder of all runs' journals.
        run: the run.
        producer: the producer.
        resume: whether to go on with a journal that is there.

    Raises:
        RunExists: there is one and ``resume`` is not given, or another process has it.
        JournalAway: the folder or the file cannot be used.
    """
    path = runs / run / f"{producer}.journal"
    with journal_errors():
        journal = Journal(path)
    with journal:
        try:
            # Released by the system with the process, however that ends.
            fcntl.flock(journal.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunExists(f"Another process is producer {producer} of run {run} at this moment.") from error
        with journal_errors():
            progress = _progress(path, run, producer)
        if progress.attempted and not resume:
            raise RunExists(
                f"{producer} has already worked in run {run}; go on with --resume, or name another --run."
            )
        yield journal, progress


def _progress(path: Path, run: str, producer: str) -> Progress:
    progress = Progress(run, producer)
    for entry in read_journal(path):
        number = int(entry.baozi_id.rpartition("/")[2])
        if entry.event is Event.ATTEMPTED:
            progress.attempted = max(progress.attempted, number + 1)
        elif entry.event is Event.ACCEPTED:
            progress.accept(number)
    return progress


@contextmanager
def journal_errors() -> Iterator[None]:
    """Turn what goes wrong with the journal's file into our error."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise JournalAway(f"The journal cannot be written or read: {error}.") from error


def produce(
    settings: Settings,
    journal: Journal,
    progress: Progress,
    total: int,
    interval: float,
    stop: Flag,
    on_accepted: Callable[[Baozi], object],
    tray: int = 1,
) -> None:
    """Make and put baozi until the order has ``total`` of them or ``stop`` is set; then close the order.

    What had been attempted in an earlier session and not accepted is put again, under its number.

    Args:
        settings: the broker's, and the window.
        journal: is told before and after each put.
        progress: where to go on; kept up to date.
        total: baozi in the whole order, 0 for no end.
        interval: seconds between two messages; each is then confirmed before the next is made.
        stop: ends the work after what is in hand.
        on_accepted: called with each that was accepted.
        tray: baozi in one message. What is lost with a message, or comes again, is then a tray of them.

    Raises:
        JournalAway: the journal cannot be written; what it does not tell is put again by ``--resume``.
        BaoziError: a put failed, as :meth:`Publisher.put` says. The order is left open, to be resumed.
    """

    def accept(accepted: Sequence[Baozi]) -> None:
        for baozi in accepted:
            progress.accept(baozi.number)
        with journal_errors():
            journal.write(Event.ACCEPTED, *(baozi.id for baozi in accepted))
        for baozi in accepted:
            on_accepted(baozi)

    numbers = progress.numbers(total)
    with Publisher(progress.producer, settings, stop, accept) as publisher:
        # As many as are made, written down and sent at once.
        size = tray if tray > 1 or interval else max(1, publisher.window // 10)
        while not stop.is_set() and (made := list(islice(numbers, size))):
            with journal_errors():
                journal.write(Event.ATTEMPTED, *(f"{progress.run}/{progress.producer}/{it}" for it in made))
            progress.attempted = max(progress.attempted, made[-1] + 1)
            together = Tray(run=progress.run, producer=progress.producer, numbers=made, made_at=time.time())
            if tray > 1:
                publisher.put_trays_ahead([together])
            else:
                publisher.put_ahead(together.baozi)
            if interval:
                publisher.flush()
                if progress.accepted != total:
                    stop.wait(interval)
        publisher.flush()
        publisher.close_order(progress.order())
