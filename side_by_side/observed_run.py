"""A run as faults and the resource meter see it, on any transport: its processes and its journals."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from baozi.workload import Workload
from side_by_side.comparison_results import Usage
from side_by_side.multiprocessing_group import Role

#: Seconds between two measurements of memory, which cost more than a look at the processor time.
_MEMORY_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class ObservedProcess:
    """A producer, a consumer or a store: one process, or a worker or broker with its child processes."""

    role: Role
    name: str
    processes: tuple[psutil.Process, ...]


class ObservedRun(Protocol):
    """A run that is going on."""

    @property
    def workload(self) -> Workload:
        """The workload of the run."""

    @property
    def folder(self) -> Path:
        """The folder whose tree has the journals."""

    def processes(self) -> list[ObservedProcess]:
        """Return all processes that are not known to have ended."""

    def revive_store(self) -> None:
        """Start the killed store again on its data, if it has any. The run goes on.

        Raises:
            BaoziError: it does not start.
        """


#: Called about fifty times a second during a run. An exception that it raises ends the run.
OnTick = Callable[[ObservedRun], None]


class ResourceMeter:
    """Measures processor time and memory of a run at each tick. Use after the last tick is not measured."""

    def __init__(self) -> None:
        """Start with no measurement."""
        self._working = False
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._peak: dict[Role, int] = {}
        self._next_memory = 0.0

    def measure(self, run: ObservedRun) -> None:
        """Measure once. What the processes use before the first baozi is made is their start: not counted."""
        self._working = self._working or any(path.stat().st_size for path in run.folder.rglob("*.journal"))
        observed = run.processes()
        for process in (process for one in observed for process in one.processes):
            with suppress(psutil.Error):
                self._last[process.pid] = _cpu_seconds(process)
                if not self._working or process.pid not in self._first:
                    self._first[process.pid] = self._last[process.pid]
        if self._working and time.monotonic() >= self._next_memory:
            self._next_memory = time.monotonic() + _MEMORY_EVERY
            for one in observed:
                self._measure_memory(one)

    def _measure_memory(self, observed: ObservedProcess) -> None:
        if observed.role is not Role.CLOSER:
            for process in observed.processes:
                with suppress(psutil.Error):
                    self._peak[observed.role] = max(self._peak.get(observed.role, 0), _own_memory(process))

    def usage(self, eaten: int) -> Usage | None:
        """Return the usage of a run that ate ``eaten`` baozi; None if it ate none or nothing was measured."""
        if not eaten or not self._last:
            return None
        seconds = sum(last - self._first[pid] for pid, last in self._last.items())
        return Usage(
            cpu_seconds_per_10000=seconds * 10_000 / eaten,
            peak_memory={role.value: peak for role, peak in self._peak.items()},
        )


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the processor seconds of all its threads. On Linux by its clock: psutil has hundredths only."""
    if sys.platform == "linux":
        with suppress(OSError):  # it has ended
            # clock_getcpuclockid(3): the inverted process id, and the kind of clock in the last three bits.
            return time.clock_gettime(~process.pid << 3 | 2)
    times = process.cpu_times()
    return times.user + times.system


def _own_memory(process: psutil.Process) -> int:
    """Return the bytes that its end would free. Forked processes share most of their resident memory."""
    try:
        return int(process.memory_full_info().uss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
