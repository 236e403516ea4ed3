"""One side of the stage: its processes, what a reader may do to them, and what its journals say."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from baozi.errors import UsageError
from baozi.faults import signals
from baozi.status import Part
from baozi.workload import Workload
from side_by_side import journal_analysis
from side_by_side.lesson.recorded import RecordedWork, of_items


class Doing(StrEnum):
    """What a reader may do."""

    KILL = "kill"
    """``kill -9``."""
    FREEZE = "freeze"
    """Stop it, as a machine that swaps or a debugger does (SIGSTOP)."""
    THAW = "thaw"
    RESTART = "restart"
    """Start it again after it was killed."""
    CUT = "cut"
    """Cut its connections, and let no bytes through."""
    JOIN = "join"
    """Let bytes through again."""


class PartCondition(StrEnum):
    """How a part of a side is."""

    RUNS = "runs"
    FROZEN = "frozen"
    KILLED = "killed"
    ENDED = "ended"
    """It has done its work."""
    CUT = "cut"
    STARTS = "starts"


@dataclass(frozen=True)
class LivePart:
    """A process, or the network: something that a reader can do something to."""

    role: str
    name: str
    condition: PartCondition
    doings: tuple[Doing, ...]
    """What may be done to it now."""


class Progressing(StrEnum):
    """How far a side is."""

    STARTING = "starting"
    RUNNING = "running"
    STUCK = "stuck"
    """Nothing has happened for long, although there is work, and the reader holds up nothing."""
    OVER = "over"


class LiveSide(ABC):
    """One side in one round. All methods except :meth:`state` are called in one thread."""

    #: The name of its transport, as in :mod:`side_by_side.transports`.
    transport: str
    #: Seconds without an event after which it is stuck.
    patience: float

    def __init__(self, workload: Workload, folder: Path) -> None:
        """Create a side without processes, whose journals are below ``folder``."""
        self.workload = workload
        self.folder = folder
        self.began = False
        """Whether its producers were started."""
        self.parts: tuple[LivePart, ...] = ()
        self.problem: str | None = None
        """What the reader must know, as a sentence."""

    @abstractmethod
    def open(self) -> None:
        """Start what must be there before the producers."""

    @abstractmethod
    def ready(self) -> bool:
        """Return whether the producers can be started."""

    def is_making(self) -> bool:
        """Return whether its first baozi is made."""
        return any(path.stat().st_size for path in self.folder.rglob("*.journal"))

    @abstractmethod
    def begin(self) -> None:
        """Start the producers."""

    @abstractmethod
    def step(self) -> None:
        """Do what is due, without waiting, and renew :attr:`parts`."""

    @abstractmethod
    def do(self, doing: Doing, part: LivePart) -> None:
        """Do something to a part."""

    @abstractmethod
    def is_over(self) -> bool:
        """Return whether its program has ended by itself."""

    @abstractmethod
    def close(self) -> None:
        """Kill all of its processes."""

    def act(self, doing: str, role: str, name: str) -> None:
        """Do what a reader asks for, if it may be done now.

        Raises:
            UsageError: there is no such part, or it may not be done to it now.
        """
        part = next((one for one in self.parts if (one.role, one.name) == (role, name)), None)
        if part is None or doing not in part.doings:
            raise UsageError("This cannot be done now.")
        self.do(Doing(doing), part)
        self.step()

    def state(self) -> Part:
        """Return what the page shows of this side."""
        # The lines first: what ends between the two is seen as over next time.
        lines = journal_analysis.read_lines(self.folder) if self.folder.exists() else []
        counts = journal_analysis.count(line.entry for line in lines)
        work = self.workload
        return Part(
            problem=self.problem,
            facts={
                "transport": self.transport,
                "round": self.folder.parent.name,
                "work": RecordedWork(
                    producers=list(work.producers),
                    consumers=list(work.consumers),
                    items=work.per_producer,
                    tray=1,
                    capacity=work.capacity,
                ).model_dump(),
                "lines": list(of_items(lines, 1)),
                "counts": counts.model_dump(),
                "progress": self._progress(lines[-1].entry.at if lines else None),
                "parts": [
                    {
                        "role": one.role,
                        "name": one.name,
                        "condition": one.condition.value,
                        "doings": [doing.value for doing in one.doings],
                    }
                    for one in self.parts
                ],
            },
        )

    def _progress(self, last: float | None) -> Progressing:
        if not self.began:
            return Progressing.STARTING
        if self.is_over():
            return Progressing.OVER
        held_up = {PartCondition.FROZEN, PartCondition.CUT, PartCondition.STARTS}
        if any(one.condition in held_up for one in self.parts):
            return Progressing.RUNNING
        silent = last is not None and time.time() - last > self.patience
        return Progressing.STUCK if silent else Progressing.RUNNING


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and those that it has started."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]


def do_to_processes(doing: Doing, processes: Iterable[psutil.Process]) -> None:
    """Kill, freeze or thaw processes."""
    numbers = {Doing.KILL: signal.SIGKILL, Doing.FREEZE: signal.SIGSTOP, Doing.THAW: signal.SIGCONT}
    signals.send(processes, numbers[doing])


def condition_of(process: psutil.Process | None, exit_code: int | None) -> PartCondition:
    """Return how a process is. ``exit_code`` is None while it runs, and below 0 if a signal ended it."""
    if exit_code is not None:
        return PartCondition.KILLED if exit_code < 0 else PartCondition.ENDED
    with suppress(psutil.NoSuchProcess):
        if process is not None and process.status() == psutil.STATUS_STOPPED:
            return PartCondition.FROZEN
    return PartCondition.RUNS


def doings_of(condition: PartCondition, restartable: bool) -> tuple[Doing, ...]:
    """Return what may be done to a process in this condition."""
    return tuple(_doings_of(condition, restartable))


def _doings_of(condition: PartCondition, restartable: bool) -> Iterator[Doing]:
    if condition in {PartCondition.RUNS, PartCondition.FROZEN}:
        yield Doing.KILL
        yield Doing.FREEZE if condition is PartCondition.RUNS else Doing.THAW
    elif condition is PartCondition.KILLED and restartable:
        yield Doing.RESTART
