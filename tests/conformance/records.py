"""What the processes of a run wrote down, read back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from baozi.journal import Event, read_journal


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """One event of a run, and whose journal it stands in."""

    at: float
    event: Event
    baozi_id: str
    name: str

    @property
    def producer(self) -> str:
        """Who made it."""
        return self.baozi_id.split("/")[1]

    @property
    def number(self) -> int:
        """Which of its producer's it is."""
        return int(self.baozi_id.split("/")[2])


class Records:
    """All journals below a folder, as one list in the order of time."""

    def __init__(self, folder: Path) -> None:
        """Read them all: ``ROLE/NAME.journal``."""
        self._all = sorted(
            Record(entry.at, entry.event, entry.baozi_id, path.stem)
            for path in folder.rglob("*.journal")
            for entry in read_journal(path)
        )

    def __iter__(self) -> Iterator[Record]:
        """All, oldest first."""
        return iter(self._all)

    def of(self, event: Event, name: str | None = None) -> list[Record]:
        """Those of one kind, by one process when it is named."""
        return [record for record in self._all if record.event is event and name in {None, record.name}]

    def ids(self, event: Event) -> list[str]:
        """What befell that event, sorted: to compare as multisets."""
        return sorted(record.baozi_id for record in self.of(event))

    def most_waiting(self) -> int:
        """The most that were accepted and not yet started at any time."""
        waiting = most = 0
        for record in self._all:
            waiting += (record.event is Event.ACCEPTED) - (record.event is Event.STARTED)
            most = max(most, waiting)
        return most
