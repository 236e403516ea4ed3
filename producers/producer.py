"""A producer: makes baozi one by one, puts each, and remembers in a journal what was accepted."""

import fcntl
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Event as Flag

from baozi.errors import JournalAway, RunExists
from baozi.journal import Event, Journal, OrderEvent
from baozi.model import NO_ORDER, Baozi, Tray
from baozi.progress import Progress
from baozi.settings import Settings
from producers.publisher import Publisher

logger = logging.getLogger(__name__)


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
            progress = Progress(run, producer)
            progress.read_on(path)
        if progress.attempted and not resume:
            raise RunExists(
                f"{producer} has already worked in run {run}; go on with --resume, or name another --run."
            )
        yield journal, progress


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

    What had been attempted in an earlier session and not accepted is put again, under its number. That is
    done after a stop too, so that a closed order has no number whose outcome is unknown.

    Args:
        settings: the broker's, and the window.
        journal: is told before and after each put.
        progress: where to go on; kept up to date.
        total: baozi in the whole order, 0 for no end.
        interval: seconds between two messages; each is then confirmed before the next is made.
        stop: ends the work after what is in hand. The caller bounds the time which that may take.
        on_accepted: called with each that was accepted. An error of its own goes to the log.
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
            try:
                on_accepted(baozi)
            except Exception:
                # The broker has it, whatever becomes of what is told about it.
                logger.exception("A callback failed after %s was accepted.", baozi.id)

    def put(numbers: list[int]) -> None:
        with journal_errors():
            journal.write(Event.ATTEMPTED, *(f"{progress.run}/{progress.producer}/{it}" for it in numbers))
        progress.attempted = max(progress.attempted, numbers[-1] + 1)
        together = Tray(run=progress.run, producer=progress.producer, numbers=numbers, made_at=time.time())
        if tray > 1:
            publisher.put_trays_ahead([together])
        else:
            publisher.put_ahead(together.baozi)

    with Publisher(progress.producer, settings, None, accept, progress.order_id) as publisher:
        _open_order(publisher, journal, progress)
        numbers = progress.numbers(total)
        # As many as are made, written down and sent at once.
        size = tray if tray > 1 or interval else max(1, publisher.window // 10)
        while not stop.is_set() and (made := list(islice(numbers, size))):
            put(made)
            if interval:
                publisher.flush()
                if progress.accepted != total:
                    stop.wait(interval)
        publisher.flush()
        unknown = iter(progress.unknown())
        while made := list(islice(unknown, size)):
            put(made)
        publisher.flush()
        publisher.close_order(progress.order())
        _note_order(journal, OrderEvent.CLOSED, progress)


def _open_order(publisher: Publisher, journal: Journal, progress: Progress) -> None:
    """Begin a session. A new order is opened by its first baozi; one that is resumed may have been closed."""
    if progress.order_id == NO_ORDER:
        return
    progress.session += 1
    _note_order(journal, OrderEvent.OPENED, progress)
    if progress.session > 1:
        publisher.open_order(progress.opening())


def _note_order(journal: Journal, event: OrderEvent, progress: Progress) -> None:
    if progress.order_id != NO_ORDER:
        names = (progress.run, progress.producer, progress.order_id, str(progress.session))
        with journal_errors():
            journal.write(event, "/".join(names))
