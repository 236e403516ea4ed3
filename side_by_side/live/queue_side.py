"""The side of ``multiprocessing.Queue``: the course's own program."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from baozi.workload import Workload
from side_by_side.live.side import (
    Doing,
    LivePart,
    LiveSide,
    condition_of,
    do_to_processes,
    doings_of,
)
from side_by_side.local_transport import LESSONS, close, consume, produce
from side_by_side.multiprocessing_group import FunctionProcess, MultiprocessingGroup, Role


class QueueSide(LiveSide):
    """Producers, a Queue, and consumers that end when they get None."""

    transport = "queue"
    patience = 5.0

    def __init__(self, workload: Workload, folder: Path) -> None:
        """Create a side without processes, whose journals are below ``folder``."""
        super().__init__(workload, folder)
        self._stack = ExitStack()
        self._group = MultiprocessingGroup(workload, folder, start_method="forkserver")
        self._channel: tuple[str, Any] = ("", None)
        self._closer: FunctionProcess | None = None

    def open(self) -> None:
        """Make the queue, and start the consumers, which wait."""
        self._stack.enter_context(self._group)
        self._channel = (self.transport, LESSONS[self.transport].make(self._group))
        for name in self.workload.consumers:
            self._group.start(Role.CONSUMER, consume, self._channel, name)
        self.step()

    def ready(self) -> bool:
        """Return true: processes are forked in milliseconds."""
        return True

    def begin(self) -> None:
        """Start the producers."""
        for name in self.workload.producers:
            self._group.start(Role.PRODUCER, produce, self._channel, name)
        self.began = True
        self.step()

    def step(self) -> None:
        """Put the None of the consumers when all producers have ended."""
        newest = self._newest()
        producers = [one for one in newest if one.role is Role.PRODUCER]
        if self.began and self._closer is None and not any(one.process.is_alive() for one in producers):
            self._closer = self._group.start(Role.CLOSER, close, self._channel, "close")
        self.parts = tuple(self._part(one) for one in newest if one.role is not Role.CLOSER)

    def do(self, doing: Doing, part: LivePart) -> None:
        """Kill, freeze or thaw a process, or start a consumer again."""
        if doing is Doing.RESTART:
            self._group.start(Role.CONSUMER, consume, self._channel, part.name)
            return
        process = next(it for it in self._newest() if (it.role, it.name) == (part.role, part.name))
        do_to_processes(doing, [psutil.Process(process.pid)])
        if doing is Doing.KILL:
            process.process.join()

    def is_over(self) -> bool:
        """Return whether all processes have ended."""
        return self._closer is not None and not any(one.process.is_alive() for one in self._newest())

    def close(self) -> None:
        """Kill all processes."""
        self._stack.close()

    def _newest(self) -> list[FunctionProcess]:
        """Return of each role and name the process that was started last."""
        return list({(one.role, one.name): one for one in list(self._group.processes)}.values())

    def _part(self, one: FunctionProcess) -> LivePart:
        code = one.process.exitcode
        condition = condition_of(psutil.Process(one.pid) if code is None else None, code)
        # The course's producers cannot go on where they were.
        return LivePart(one.role, one.name, condition, doings_of(condition, one.role is Role.CONSUMER))
