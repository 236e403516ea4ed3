"""The crew: real processes, each with a role and a name, that are all gone at the end, however it comes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import psutil

from baozi.errors import BaoziError

#: Seconds that a process may take to end by itself when it is asked to.
STOP_TIMEOUT = 15
#: Seconds that a killed process may take to be gone.
_KILL_TIMEOUT = 5
#: Seconds between two looks whether a signal came while processes end.
_LOOK_EVERY = 0.1


#: Celery's own variables, empty: the broker is the one that BAOZI_BROKER_URL names for the process.
_NO_OTHER_BROKER = {
    "CELERY_BROKER_URL": "",
    "CELERY_BROKER_READ_URL": "",
    "CELERY_BROKER_WRITE_URL": "",
}


class MemberFailed(BaoziError):
    """One of the processes ended too early; its log says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process: what it does, what it is called, and where its log is."""

    role: str
    name: str
    process: psutil.Popen
    log: Path

    def last_words(self) -> str:
        """The last line of its log, for an error's message."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it left no log"


class Crew:
    """Starts processes and, at the end, stops those it started, in reverse order."""

    def __init__(self, logs: Path, stdout: TextIO = sys.stdout) -> None:
        """Keep each process's log, its stderr, in the folder ``logs``; ``stdout`` is everybody's."""
        self.logs = logs
        self._stdout = stdout
        self.members: list[Member] = []

    def start(
        self,
        role: str,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> Member:
        """Start ``python -m`` with ``arguments``.

        Args:
            role: "worker", "producer", …
            name: its own name, which also names its log.
            arguments: the module and its arguments.
            environment: variables besides this process's own.
            folder: its working directory; default: ours.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{role}-{name}.log"
        # A session of its own: Ctrl-C at the terminal reaches us alone, and we stop the crew in order.
        with _uninterrupted(), log.open("wb") as stderr:
            process = psutil.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, **_NO_OTHER_BROKER, **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=self._stdout,
                stderr=stderr,
                start_new_session=True,
            )
            member = Member(role, name, process, log)
            self.members.append(member)
        return member

    @property
    def running(self) -> list[str]:
        """Role and name of each process that has not ended."""
        names = [(it.role, it.name) for it in self.members if it.process.poll() is None]
        return [name if role == name else f"{role} {name}" for role, name in names]

    def check(self) -> None:
        """See that everybody is still at work, or ended well; of the workers, one is enough.

        Raises:
            MemberFailed: somebody ended with an error; says who, and the last words.
        """
        for member in self.members:
            code = member.process.poll()
            if code and not (member.role == "worker" and self._any_worker_left()):
                raise MemberFailed(f"{member.role} {member.name} failed ({code}): {member.last_words()}")

    def all_done(self) -> bool:
        """Whether every process has ended well."""
        return all(member.process.poll() == 0 for member in self.members)

    def _any_worker_left(self) -> bool:
        return any(member.role == "worker" and member.process.poll() is None for member in self.members)

    def stop(self, heard: Sequence[int] = ()) -> None:
        """End every process: ask first, kill what does not listen, with all its children.

        Args:
            heard: signals that came meanwhile. The first one ends the wait: all are killed.
        """
        trees = [tree for member in reversed(self.members) for tree in _tree(member.process)]
        for member in reversed(self.members):
            if member.process.poll() is None:
                member.process.terminate()
        alive, deadline = trees, time.monotonic() + STOP_TIMEOUT
        while alive and not heard and time.monotonic() < deadline:
            _, alive = psutil.wait_procs(alive, timeout=_LOOK_EVERY)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=_KILL_TIMEOUT)
        for member in self.members:
            # Children of a process that was killed are nobody's children any more, but still in its group.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(member.process.pid, signal.SIGKILL)
        self.members.clear()

    def __enter__(self) -> Self:
        """Return the crew itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everybody."""
        with _uninterrupted() as heard:
            self.stop(heard)


@contextmanager
def _uninterrupted() -> Iterator[list[int]]:
    """Put off Ctrl-C and SIGTERM, which could leave a process that nobody knows, to the end of the block.

    Yields the signals that have come.
    """
    heard: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in numbers}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        signal.raise_signal(heard[0])


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]
