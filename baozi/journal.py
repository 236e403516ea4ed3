"""The journal: a process appends a line for each event at once, so that SIGKILL loses none."""

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
    """An event of a baozi, in their order; or of the journal itself."""

    ATTEMPTED = "attempted"
    ACCEPTED = "accepted"
    STARTED = "started"
    EATEN = "eaten"
    BODY = "body"
    """What an order puts under a number: the id is followed by ``/`` and a digest of task and arguments."""
    MISSED = "missed"
    """So many lines could not be written before this one. Their number stands in the place of an id."""


class OrderEvent(StrEnum):
    """An event of a producer's order."""

    OPENED = "opened"
    CLOSED = "closed"


_ORDER_EVENTS = frozenset(OrderEvent)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal; ``at`` is in UTC epoch seconds."""

    at: float
    event: Event
    baozi_id: str

    def __str__(self) -> str:
        """Return the line, without its end."""
        return f"{self.at:.6f} {self.event} {self.baozi_id}"


@dataclass(frozen=True, slots=True)
class OrderEntry:
    """A line about an order; ``at`` is in UTC epoch seconds."""

    at: float
    event: OrderEvent
    order: str
    """The order's id."""
    session: int


class Journal:
    """An append-only file of one process. Each line is one write, so that readers see whole lines."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` to append to it. Make it and its folder if they are missing.

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
        """Append a line for each id, in one write. The id of an order is ``run/producer/order/session``.

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
    """A worker's journal. A failed write is not an error, because the baozi was eaten.

    It is logged once, and the missing lines are counted. The next line that can be written has the count.
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
    """Yield the entries of baozi in a journal. Incomplete lines are left out.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as lines:
        for line in lines:
            entry = _parse(line)
            if isinstance(entry, Entry):
                yield entry


def read_on(path: Path, start: int) -> Iterator[tuple[Entry | OrderEntry, int]]:
    """Yield the entries of a journal from byte ``start``, of orders too, each with the offset of its end.

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
