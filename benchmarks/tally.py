"""The tally: a shared memory file in which each thread of each consumer counts what it has eaten."""

import fcntl
import mmap
import struct
import threading
import time
from pathlib import Path

_FILE = Path("tally")
_SLOT = struct.Struct("=QdQ")
#: The largest number of threads; how many latencies are kept for each.
_SLOTS, _WAITS = 64, 8192
_SIZE = _SLOT.size + 8 * _WAITS
_mine = threading.local()


class _Slot:
    """The part of the file that belongs to one thread."""

    def __init__(self) -> None:
        with _FILE.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            taken = int(file.read(8) or 0)
            file.seek(0)
            file.write(f"{taken + 1:8d}".encode())
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0)
            # Unlocked explicitly: the mapping keeps the file open, and so the lock, after the block.
            fcntl.flock(file, fcntl.LOCK_UN)
        self._at = 8 + taken * _SIZE
        self._count = 0

    def add(self, eaten: int, wait: float | None) -> None:
        if wait is not None and self._count < _WAITS:
            struct.pack_into("=d", self._map, self._at + _SLOT.size + 8 * self._count, wait)
        self._count += eaten
        _SLOT.pack_into(self._map, self._at, self._count, time.time(), 0)


def new_tally(folder: Path) -> None:
    """Create an empty tally in ``folder``."""
    (folder / _FILE).write_bytes(b"%8d" % 0 + bytes(_SLOTS * _SIZE))


def eaten(count: int = 1, wait: float | None = None) -> None:
    """Count baozi of this thread, in the tally of the working directory.

    Args:
        count: how many were eaten.
        wait: the latency of one of them, in seconds.
    """
    slot = getattr(_mine, "slot", None)
    if slot is None:
        slot = _mine.slot = _Slot()
    slot.add(count, wait)


def read_tally(folder: Path) -> tuple[int, list[float]]:
    """Return how many baozi were eaten in total, and the latencies in seconds."""
    data = (folder / _FILE).read_bytes()
    total, waits = 0, []
    for number in range(int(data[:8])):
        at = 8 + number * _SIZE
        count = _SLOT.unpack_from(data, at)[0]
        total += count
        noted = struct.unpack_from(f"={min(count, _WAITS)}d", data, at + _SLOT.size)
        waits += [wait for wait in noted if wait]
    return total, waits
