"""A producer: makes baozi one by one, puts each, and remembers in a journal what was accepted."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag

from baozi.errors import JournalAway, RunExists
from baozi.journal import Event, Journal, read_journal
from baozi.model import Baozi, Order
from producers.publisher import Publisher


@dataclass(slots=True)
class Progress:
    """How far a producer's order has come, over all its sessions in a run."""

    run: str
    producer: str
    accepted: int = 0
    attempted: int = 0

    def order(self) -> Order:
        """The order as it stands, closed now."""
        return Order(
            run=self.run,
            producer=self.producer,
            accepted=self.accepted,
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
            progress.accepted = max(progress.accepted, number + 1)
    return progress


@contextmanager
def journal_errors() -> Iterator[None]:
    """Turn what goes wrong with the journal's file into our error."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise JournalAway(f"The journal cannot be written or read: {error}.") from error


def produce(
    publisher: Publisher,
    journal: Journal,
    progress: Progress,
    count: int,
    interval: float,
    stop: Flag,
    on_accepted: Callable[[Baozi], None],
) -> None:
    """Make and put baozi until the order has ``count`` of them or ``stop`` is set; then close the order.

    What had been attempted in an earlier session and not accepted is put again, under its number.

    Args:
        publisher: puts them.
        journal: is told before and after each put.
        progress: where to go on; kept up to date.
        count: baozi in the whole order, 0 for no end.
        interval: seconds between two.
        stop: ends the work after the put in hand.
        on_accepted: called with each that was accepted.

    Raises:
        JournalAway: the journal cannot be written; what it does not tell is put again by ``--resume``.
        BaoziError: a put failed, as :meth:`Publisher.put` says. The order is left open, to be resumed.
    """
    while (not count or progress.accepted < count) and not stop.is_set():
        baozi = Baozi(
            run=progress.run, producer=progress.producer, number=progress.accepted, made_at=time.time()
        )
        with journal_errors():
            journal.write(Event.ATTEMPTED, baozi.id)
        progress.attempted = max(progress.attempted, baozi.number + 1)
        publisher.put(baozi)
        progress.accepted = baozi.number + 1
        with journal_errors():
            journal.write(Event.ACCEPTED, baozi.id)
        on_accepted(baozi)
        if progress.accepted != count:
            stop.wait(interval)
    publisher.close_order(progress.order())
