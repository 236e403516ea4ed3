"""What a run takes of the machine: processor seconds of all its processes, peak memory by role."""

import sys
import time
from contextlib import suppress

import psutil

from side_by_side.results import Usage
from side_by_side.scene import Player, Scene
from side_by_side.stage import Role

#: Seconds between two looks at the memory, which cost the system more than a look at the clock.
_MEMORY_EVERY = 0.25


class Meter:
    """Looks at the processes at each tick. What one takes after its last look is missed."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._working = False
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._peak: dict[Role, int] = {}
        self._next_memory = 0.0

    def look(self, scene: Scene) -> None:
        """Take the readings. What is taken before the first baozi is made, to start, does not count."""
        self._working = self._working or any(path.stat().st_size for path in scene.folder.rglob("*.journal"))
        players = scene.players()
        for process in (process for player in players for process in player.processes):
            with suppress(psutil.Error):
                self._last[process.pid] = _cpu_seconds(process)
                if not self._working or process.pid not in self._first:
                    self._first[process.pid] = self._last[process.pid]
        if self._working and time.monotonic() >= self._next_memory:
            self._next_memory = time.monotonic() + _MEMORY_EVERY
            for player in players:
                self._look_at_memory(player)

    def _look_at_memory(self, player: Player) -> None:
        if player.role is not Role.CLOSER:
            for process in player.processes:
                with suppress(psutil.Error):
                    self._peak[player.role] = max(self._peak.get(player.role, 0), _own_memory(process))

    def usage(self, eaten: int) -> Usage | None:
        """Return what was taken for ``eaten`` baozi; None where none was eaten or nothing was seen."""
        if not eaten or not self._last:
            return None
        seconds = sum(last - self._first[pid] for pid, last in self._last.items())
        return Usage(
            cpu_seconds_per_10000=seconds * 10_000 / eaten,
            peak_memory={role.value: peak for role, peak in self._peak.items()},
        )


def _cpu_seconds(process: psutil.Process) -> float:
    """Processor seconds of all its threads; on Linux by its own clock, for psutil's come in hundredths."""
    if sys.platform == "linux":
        with suppress(OSError):  # it has ended
            # clock_getcpuclockid(3): the inverted process id, and the kind of clock in the last three bits.
            return time.clock_gettime(~process.pid << 3 | 2)
    times = process.cpu_times()
    return times.user + times.system


def _own_memory(process: psutil.Process) -> int:
    """Bytes that would be free if it ended: forked processes share the most of what they show as resident."""
    try:
        return int(process.memory_full_info().uss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
