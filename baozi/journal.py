"""The journal: a file to which a process appends one line for each event of a baozi.

Each line is written at once, without a buffer, so that no line is lost if the process is killed.
"""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

#: Ends an incomplete line. No complete line has a NUL, so that an incomplete id is not taken for a shorter
#: one.
_TORN = b"\0\n"


class Event(StrEnum):
    """The kind of a journal line about baozi."""

    ATTEMPTED = "attempted"
    """The producer is about to put the baozi."""
    ACCEPTED = "accepted"
    """The broker has confirmed the baozi."""
    STARTED = "started"
    """A worker has begun to eat the baozi."""
    EATEN = "eaten"
    """A worker has eaten the baozi."""
    BODY = "body"
    """Precedes ATTEMPTED: the id is followed by ``/`` and a digest of the task and its arguments."""
    MISSED = "missed"
    """Some lines before this one could not be written. Their number is in the place of the id."""


class OrderEvent(StrEnum):
    """The kind of a journal line about the producer's order."""

    OPENED = "opened"
    """The producer began a session of the order."""
    CLOSED = "closed"
    """The broker has confirmed the closing message of a session."""


_ORDER_EVENTS = frozenset(OrderEvent)


@dataclass(frozen=True, slots=True)
class Entry:
    """A journal line about a baozi. ``at`` is in UTC epoch seconds."""

    at: float
    event: Event
    baozi_id: str

    def __str__(self) -> str:
        """Return the line, without the newline."""
        return f"{self.at:.6f} {self.event} {self.baozi_id}"


@dataclass(frozen=True, slots=True)
class OrderEntry:
    """A journal line about an order. ``at`` is in UTC epoch seconds."""

    at: float
    event: OrderEvent
    order: str
    """The order's id."""
    session: int


class Journal:
    """An append-only file of one process. Each line is one write, so that readers see whole lines."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` to append to it. The file and its folder are created if they are missing.

        Raises:
            OSError: the file cannot be opened.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._whole = False

    def _end_torn_line(self) -> None:
        """End the incomplete line that a killed process may have left."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, _TORN)

    def write(self, event: Event | OrderEvent, *baozi_ids: str) -> None:
        """Append a line for each id, in one write.

        Args:
            event: the kind of all lines.
            baozi_ids: ids of baozi; for an event of an order ``run/producer/order/session``.

        Raises:
            OSError: the write failed, for example because the disk is full. Readers ignore an incomplete
                line.
        """
        now = f"{time.time():.6f}"
        lines = "".join([f"{now} {event} {baozi_id}\n" for baozi_id in baozi_ids]).encode()
        if not self._whole:
            self._end_torn_line()
        self._whole = os.write(self._file, lines) == len(lines)
        if not self._whole:
            raise OSError("the journal's disk is full")

    def fileno(self) -> int:
        """Return the file's descriptor, for a lock on it."""
        return self._file

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


class WorkerJournal:
    """A worker's journal. A failed write raises no error, because the baozi was eaten.

    The failure is logged once, and the missing lines are counted. The next line that can be written has the
    count.
    """

    def __init__(self, path: Path) -> None:
        """Set the path. The first write opens the file."""
        self._path = path
        self._journal: Journal | None = None
        self._missing = 0

    def write(self, event: Event, *baozi_ids: str) -> None:
        """Append one line for each id, if the file can be written."""
        try:
            if self._journal is None:
                self._journal = Journal(self._path)
            if self._missing:
                self._journal.write(Event.MISSED, str(self._missing))
                self._missing = 0
            self._journal.write(event, *baozi_ids)
        except (OSError, ValueError) as error:
            if not self._missing:
                logger.error("The journal %s is incomplete from here on: %s.", self._path, error)
            self._missing += len(baozi_ids)


def read_journal(path: Path) -> Iterator[Entry]:
    """Yield the lines of a journal that are about baozi. Incomplete lines are skipped.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as lines:
        for line in lines:
            entry = _parse(line)
            if isinstance(entry, Entry):
                yield entry


def read_on(path: Path, start: int) -> Iterator[tuple[Entry | OrderEntry, int]]:
    """Yield all lines of a journal from byte ``start``, each with the offset of the byte after it.

    Incomplete lines are skipped.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            start += len(line)
            entry = _parse(line)
            if entry is not None:
                yield entry, start


def _parse(line: bytes) -> Entry | OrderEntry | None:
    if not line.endswith(b"\n") or line.endswith(_TORN):
        return None
    try:
        at, event, name = line.decode().rstrip("\n").split(" ", 2)
        if event in _ORDER_EVENTS:
            _, order, session = name.rsplit("/", 2)
            return OrderEntry(float(at), OrderEvent(event), order, int(session))
        return Entry(float(at), Event(event), name)
    except ValueError:
        return None
