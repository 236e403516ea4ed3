"""A group of ``multiprocessing`` processes that do one workload. All of them end with the group."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from multiprocessing import connection
from multiprocessing.context import DefaultContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from baozi.errors import BaoziError, DeadlinePassed, ExitCode
from baozi.journal import Journal
from baozi.language import Sentence
from baozi.workload import Workload
from local_mp.guarded import end_with_parent

#: Seconds between two checks of the processes. It is short, so that a fault can be timed precisely.
_TICK = 0.02

#: What a process runs. It gets a channel (a queue, a pipe or a file), its name, the workload and its journal.
Work = Callable[[Any, str, Workload, Journal], None]


class ProcessFailed(BaoziError):
    """A process of the run failed. Its own message is printed above."""

    exit_code = ExitCode.LOSS


class Role(StrEnum):
    """What a process does in a run."""

    PRODUCER = Sentence("producer")
    CONSUMER = Sentence("consumer")
    STORE = Sentence("store")
    """Stores what was put, where a process does that: the Manager or the broker."""
    CLOSER = "closer"
    """Puts the ``None`` that tells the consumers to stop."""


@dataclass(frozen=True, slots=True)
class FunctionProcess:
    """A process of the group, which runs a function."""

    role: Role
    name: str
    process: BaseProcess

    @property
    def pid(self) -> int:
        """Its process id."""
        return cast(int, self.process.pid)  # the process was started, so it has one


class MultiprocessingGroup:
    """Starts processes that run functions. The end of the ``with`` block kills those that still run."""

    def __init__(
        self,
        workload: Workload,
        folder: Path,
        *,
        start_method: str | None = None,
        tick: Callable[["MultiprocessingGroup"], None] | None = None,
    ) -> None:
        """Create a group without processes. The workload's deadline starts now.

        Args:
            workload: what the processes do; its ``deadline`` is in seconds.
            folder: the folder of this run. Each process writes the journal ``ROLE/NAME.journal`` in it.
            start_method: ``spawn``, ``fork`` or ``forkserver``; None is the platform's default.
            tick: called about fifty times a second, in this thread, while this group waits for processes. It
                may look at ``processes`` and kill some.
        """
        self.workload = workload
        self.folder = folder
        self.mp = cast(DefaultContext, multiprocessing.get_context(start_method))
        self.processes: list[FunctionProcess] = []
        self._ends_at = time.monotonic() + workload.deadline
        self._tick = tick

    def start(
        self, role: Role, work: Work, channel: object, name: str, *, daemon: bool = False
    ) -> FunctionProcess:
        """Start a process that runs ``work(channel, name, workload, journal)``, and return it.

        Args:
            role: what it does in the run.
            work: a function at the top level of a module, so that every start method can import it.
            channel: what ``work`` puts to or gets from.
            name: the name of the process and of its journal.
            daemon: end it with its parent instead of waiting for it.
        """
        journal = self.folder / role / f"{name}.journal"
        process = self.mp.Process(
            target=_run_work,
            args=(partial(work, channel, name, self.workload), journal),
            name=f"{role} {name}",
            daemon=daemon,
        )
        process.start()
        started = FunctionProcess(role, name, process)
        self.processes.append(started)
        return started

    def wait(self, processes: Iterable[FunctionProcess]) -> None:
        """Wait until all these ``processes`` have ended by themselves or were killed.

        Raises:
            DeadlinePassed: some still run at the deadline; the message names them.
            ProcessFailed: a process of the group ended with an error.
        """
        running = list(processes)
        while running := [one for one in running if one.process.is_alive()]:
            left = self._ends_at - time.monotonic()
            if left <= 0:
                still = ", ".join(one.process.name for one in running)
                raise DeadlinePassed(
                    "Not done within {deadline:g} s; these still wait: {still}.",
                    deadline=self.workload.deadline,
                    still=still,
                )
            connection.wait([one.process.sentinel for one in running], min(_TICK, left))
            if self._tick is not None:
                self._tick(self)
            self._check_that_none_failed()
        self._check_that_none_failed()

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until ``condition`` returns true.

        Raises:
            DeadlinePassed: it did not by the deadline; the message says ``what`` was awaited.
            ProcessFailed: a process of the group ended with an error.
        """
        while not condition():
            if time.monotonic() > self._ends_at:
                raise DeadlinePassed(
                    "Waited {deadline:g} s for {what}, without success.",
                    deadline=self.workload.deadline,
                    what=what,
                )
            time.sleep(_TICK)
            if self._tick is not None:
                self._tick(self)
            self._check_that_none_failed()

    def receive(self, pipe: connection.Connection) -> object:
        """Return the first object that a process of the group sends through ``pipe``.

        Raises:
            DeadlinePassed: it sent nothing by the deadline.
            ProcessFailed: a process ended with an error instead.
        """
        while not pipe.poll(_TICK):
            self._check_that_none_failed()
            if time.monotonic() > self._ends_at:
                raise DeadlinePassed(
                    "Received nothing within {deadline:g} s from {name}.",
                    deadline=self.workload.deadline,
                    name=self.processes[-1].name,
                )
        try:
            return pipe.recv()
        except EOFError:
            raise ProcessFailed("A process ended before it sent the expected object.") from None

    def _check_that_none_failed(self) -> None:
        for one in self.processes:
            # A negative exit code is a signal's number: the process was killed. The run's counts judge that.
            if (one.process.exitcode or 0) > 0:
                raise ProcessFailed("The {name} failed; its message is printed above.", name=one.process.name)

    def __enter__(self) -> Self:
        """Return the group itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill every process that still runs, and wait for all."""
        # The last first: if a store ended before its clients, they would print errors.
        for one in reversed(self.processes):
            one.process.kill()
        for one in self.processes:
            one.process.join()


def _run_work(work: Callable[[Journal], None], journal: Path) -> None:
    """Run ``work`` in a new process, with its own journal and without the lesson's output."""
    # Ctrl-C reaches every process of the terminal. The parent handles it, and ends the group.
    end_with_parent()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), Journal(journal) as own:
        try:
            work(own)
        except BaoziError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)
