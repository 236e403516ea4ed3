"""The tally: how many each thread of each process has eaten, in memory that the observer shares."""

import fcntl
import mmap
import struct
import threading
import time
from pathlib import Path

_FILE = Path("tally")
_SLOT = struct.Struct("=QdQ")
#: Eaters at the most; waits that are kept for one of them.
_SLOTS, _WAITS = 64, 8192
_SIZE = _SLOT.size + 8 * _WAITS
_mine = threading.local()


class _Slot:
    """One thread's own place."""

    def __init__(self) -> None:
        with _FILE.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            taken = int(file.read(8) or 0)
            file.seek(0)
            file.write(f"{taken + 1:8d}".encode())
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0)
            # Not left to the file's end: the map goes on holding it, and with it the lock.
            fcntl.flock(file, fcntl.LOCK_UN)
        self._at = 8 + taken * _SIZE
        self._count = 0

    def add(self, eaten: int, wait: float | None) -> None:
        if wait is not None and self._count < _WAITS:
            struct.pack_into("=d", self._map, self._at + _SLOT.size + 8 * self._count, wait)
        self._count += eaten
        _SLOT.pack_into(self._map, self._at, self._count, time.time(), 0)


def new_tally(folder: Path) -> None:
    """Make an empty tally in ``folder``."""
    (folder / _FILE).write_bytes(b"%8d" % 0 + bytes(_SLOTS * _SIZE))


def eaten(count: int = 1, wait: float | None = None) -> None:
    """Add ``count`` to this thread's tally, in the working directory's, and how long one took (seconds)."""
    slot = getattr(_mine, "slot", None)
    if slot is None:
        slot = _mine.slot = _Slot()
    slot.add(count, wait)


def read_tally(folder: Path) -> tuple[int, list[float]]:
    """Return how many are eaten, and the waits that were noted."""
    data = (folder / _FILE).read_bytes()
    total, waits = 0, []
    for number in range(int(data[:8])):
        at = 8 + number * _SIZE
        count = _SLOT.unpack_from(data, at)[0]
        total += count
        noted = struct.unpack_from(f"={min(count, _WAITS)}d", data, at + _SLOT.size)
        waits += [wait for wait in noted if wait]
    return total, waits
