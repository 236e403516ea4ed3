"""Writes down in a journal what a lesson's producer and consumer do, without a line of it in the lesson.

A lesson puts to and gets from the queue that it is given. Here it is given one that notes each put and get,
sets the pace, and carries several baozi in one item where the workload says so. An item on the real queue is
a list of pairs: the baozi's id, and what the lesson put.
"""

import time
from collections import deque
from itertools import count
from types import ModuleType
from typing import Any

from baozi.journal import Event, Journal
from baozi.workload import Workload


def produce(lesson: ModuleType, queue: Any, name: str, workload: Workload, journal: Journal) -> None:
    """Run the lesson's producer ``name`` at the workload's pace.

    Raises:
        OSError: the journal cannot be written.
    """
    lesson.producer(_Putting(queue, name, workload, journal), name, workload.per_producer, 0)


def consume(lesson: ModuleType, queue: Any, name: str, workload: Workload, journal: Journal) -> None:
    """Run the lesson's consumer ``name``.

    Raises:
        OSError: the journal cannot be written.
    """
    lesson.consumer(_Getting(queue, journal), name, workload.eat_seconds)


class _Putting:
    """The queue as a producer sees it."""

    def __init__(self, queue: Any, name: str, workload: Workload, journal: Journal) -> None:
        self._queue = queue
        self._journal = journal
        self._ids = (f"{workload.run}/{name}/{number}" for number in count())
        self._left = workload.per_producer
        self._tray = workload.tray
        self._seconds = workload.make_seconds
        self._due = time.monotonic()
        self._made: list[tuple[str, object]] = []

    def put(self, item: object) -> None:
        """Put at the pace of the clock, so that the rate does not sink with the time that a put takes."""
        self._due = max(self._due + self._seconds, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._made.append((next(self._ids), item))
        self._left -= 1
        if len(self._made) == self._tray or not self._left:
            made, self._made = self._made, []
            ids = [baozi_id for baozi_id, _ in made]
            self._journal.write(Event.ATTEMPTED, *ids)
            self._queue.put(made)
            self._journal.write(Event.ACCEPTED, *ids)

    def join(self) -> None:
        """Wait until all is done."""
        self._queue.join()


class _Getting:
    """The queue as a consumer sees it. A baozi is eaten when the consumer asks for the next one."""

    def __init__(self, queue: Any, journal: Journal) -> None:
        self._queue = queue
        self._journal = journal
        self._in_hand: deque[tuple[str, object]] = deque()
        self._eating: str | None = None

    def get(self) -> object:
        """Return what a producer put, or ``None``."""
        self._note_eaten()
        if not self._in_hand:
            got = self._queue.get()
            if got is None:
                return None
            self._in_hand.extend(got)
            self._journal.write(Event.STARTED, *(baozi_id for baozi_id, _ in got))
        self._eating, item = self._in_hand.popleft()
        return item

    def task_done(self) -> None:
        """Report an item of the real queue when all its baozi are eaten."""
        self._note_eaten()
        if not self._in_hand:
            self._queue.task_done()

    def _note_eaten(self) -> None:
        if self._eating is not None:
            self._journal.write(Event.EATEN, self._eating)
            self._eating = None
