"""The stage: where processes are started, known by their role, waited for, and always ended."""

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

from baozi.errors import BaoziError, ExitCode
from baozi.journal import Journal
from baozi.workload import Workload
from local_mp.guarded import DeadlinePassed, leave_signals_to_parent

#: Seconds between two looks at the processes while they are waited for: short enough to time a fault well.
_TICK = 0.02

#: What a process runs: its channel (a queue, a pipe, a file…), its name, the workload, its own journal.
Work = Callable[[Any, str, Workload, Journal], None]


class ActorFailed(BaoziError):
    """A process of the run failed; what it said stands above."""

    exit_code = ExitCode.LOSS


class Role(StrEnum):
    """What a process is for."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    STORE = "store"
    """Keeps what was put, where the place is a process: the Manager."""
    CLOSER = "closer"
    """Puts the ``None`` that tells the consumers to stop."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A process on the stage."""

    role: Role
    name: str
    process: BaseProcess

    @property
    def pid(self) -> int:
        """Its process id."""
        return cast(int, self.process.pid)  # an actor's process was started, so it has one


class Stage:
    """Starts processes and knows them. Leaving it (``with``) kills whichever still run, whatever happened."""

    def __init__(
        self,
        workload: Workload,
        folder: Path,
        *,
        start_method: str | None = None,
        tick: Callable[["Stage"], None] | None = None,
    ) -> None:
        """Set the stage.

        Args:
            workload: what is to be done, and how many seconds from now it may take in all.
            folder: this run's own: a journal a process, as ``ROLE/NAME.journal``, and the file of file-lock.
            start_method: ``spawn``, ``fork`` or ``forkserver``; the platform's own when None.
            tick: called some fifty times a second, in this thread, while processes are waited for. It may
                look at ``actors`` and kill some.
        """
        self.workload = workload
        self.folder = folder
        self.mp = cast(DefaultContext, multiprocessing.get_context(start_method))
        self.actors: list[Actor] = []
        self._ends_at = time.monotonic() + workload.deadline
        self._tick = tick

    def start(self, role: Role, work: Work, channel: object, name: str, *, daemon: bool = False) -> Actor:
        """Start a process that runs ``work(channel, name, workload, journal)`` and return it, running.

        Args:
            role: what it is for.
            work: a function of a module, so that every start method can find it.
            channel: whatever ``work`` puts to or gets from.
            name: who it is; names its journal.
            daemon: end it with its parent instead of waiting for it.
        """
        journal = self.folder / role / f"{name}.journal"
        process = self.mp.Process(
            target=_act,
            args=(partial(work, channel, name, self.workload), journal),
            name=f"{role} {name}",
            daemon=daemon,
        )
        process.start()
        actor = Actor(role, name, process)
        self.actors.append(actor)
        return actor

    def wait(self, actors: Iterable[Actor]) -> None:
        """Wait until all these have ended: of themselves, or killed.

        Raises:
            DeadlinePassed: some still run at the deadline; says which.
            ActorFailed: any process on the stage ended with an error.
        """
        running = list(actors)
        while running := [actor for actor in running if actor.process.is_alive()]:
            left = self._ends_at - time.monotonic()
            if left <= 0:
                still = ", ".join(actor.process.name for actor in running)
                raise DeadlinePassed(
                    f"Not done within {self.workload.deadline:g} s; these still wait: {still}."
                )
            connection.wait([actor.process.sentinel for actor in running], min(_TICK, left))
            if self._tick is not None:
                self._tick(self)
            self._see_that_none_failed()
        self._see_that_none_failed()

    def wait_until(self, seen: Callable[[], bool], what: str) -> None:
        """Wait until ``seen`` returns true.

        Raises:
            DeadlinePassed: it did not by the deadline; says ``what`` was waited for.
            ActorFailed: any process on the stage ended with an error.
        """
        while not seen():
            if time.monotonic() > self._ends_at:
                raise DeadlinePassed(f"Waited {self.workload.deadline:g} s in vain for {what}.")
            time.sleep(_TICK)
            if self._tick is not None:
                self._tick(self)
            self._see_that_none_failed()

    def hear(self, pipe: connection.Connection) -> object:
        """Return the first thing that a process on the stage says through ``pipe``.

        Raises:
            DeadlinePassed: it said nothing until the deadline.
            ActorFailed: a process ended instead, with an error.
        """
        while not pipe.poll(_TICK):
            self._see_that_none_failed()
            if time.monotonic() > self._ends_at:
                raise DeadlinePassed(
                    f"Not heard within {self.workload.deadline:g} s from {self.actors[-1].name}."
                )
        try:
            return pipe.recv()
        except EOFError:
            raise ActorFailed("A process ended before it said what was awaited.") from None

    def _see_that_none_failed(self) -> None:
        for actor in self.actors:
            # Below zero is a signal's number: it was killed, which is for the run's audit to judge.
            if (actor.process.exitcode or 0) > 0:
                raise ActorFailed(f"The {actor.process.name} failed; what it said stands above.")

    def __enter__(self) -> Self:
        """Return the stage itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill whichever process still runs, and bury all."""
        # The last first: a store that goes before those who use it would make them complain.
        for actor in reversed(self.actors):
            actor.process.kill()
        for actor in self.actors:
            actor.process.join()


def _act(work: Callable[[Journal], None], journal: Path) -> None:
    """What each process does: its work, with a journal of its own, and without the lesson's output."""
    # Ctrl-C reaches every process of the terminal; the parent alone answers it, by leaving the stage.
    leave_signals_to_parent()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), Journal(journal) as own:
        try:
            work(own)
        except BaoziError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)
