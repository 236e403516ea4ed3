"""A process group: programs that run together, each with a role and a name, and are stopped together."""

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

#: Seconds that a process may take to end after SIGTERM.
STOP_TIMEOUT = 15
#: Seconds that the operating system may take to remove a killed process.
_KILL_TIMEOUT = 5
#: Seconds between two checks whether a signal came while processes end.
_CHECK_EVERY = 0.1


#: Celery's own variables are set to nothing, so that each process uses the broker of its BAOZI_BROKER_URL.
_NO_OTHER_BROKER = {
    "CELERY_BROKER_URL": "",
    "CELERY_BROKER_READ_URL": "",
    "CELERY_BROKER_WRITE_URL": "",
}


class ProcessEndedEarly(BaoziError):
    """A process of the group ended too early. Its log says why."""


@dataclass(frozen=True, slots=True)
class StartedProcess:
    """A process that runs a program: its role, its name and the file of its log."""

    role: str
    name: str
    process: psutil.Popen
    log: Path

    def last_log_line(self) -> str:
        """Return the last line of its log, for an error message."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its log is empty"


class ProcessGroup:
    """Starts processes. Stops them in reverse order when the ``with`` block ends."""

    def __init__(self, logs: Path, stdout: TextIO = sys.stdout) -> None:
        """Create a group without processes.

        Args:
            logs: folder of the logs; the log of a process is what it writes to stderr.
            stdout: the standard output of every process.
        """
        self.logs = logs
        self._stdout = stdout
        self.processes: list[StartedProcess] = []

    def start(
        self,
        role: str,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> StartedProcess:
        """Start ``python -m`` with ``arguments``, which are the module and its arguments.

        The other parameters are those of :meth:`run`.
        """
        return self.run(role, name, [sys.executable, "-m", *arguments], environment, folder)

    def run(
        self,
        role: str,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> StartedProcess:
        """Start ``command``.

        Args:
            role: "worker", "producer" or another word for what the process does.
            name: the name of the process; its log is ``ROLE-NAME.log``.
            command: the program and its arguments.
            environment: variables that are added to those of this process.
            folder: its working directory; default: that of this process.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{role}-{name}.log"
        # Each process has its own session, so that Ctrl-C reaches this process only, which stops the group.
        with _signals_delayed(), log.open("wb") as stderr:
            process = psutil.Popen(
                list(command),
                env={**os.environ, **_NO_OTHER_BROKER, **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=self._stdout,
                stderr=stderr,
                start_new_session=True,
            )
            started = StartedProcess(role, name, process, log)
            self.processes.append(started)
        return started

    @property
    def running(self) -> list[str]:
        """Role and name of each process that has not ended."""
        names = [(it.role, it.name) for it in self.processes if it.process.poll() is None]
        return [name if role == name else f"{role} {name}" for role, name in names]

    def check(self) -> None:
        """Check that every process still runs or has ended without an error. One running worker is enough.

        Raises:
            ProcessEndedEarly: a process ended with an error; the message has its name and its last log line.
        """
        for started in self.processes:
            code = started.process.poll()
            if code and not (started.role == "worker" and self._any_worker_left()):
                raise ProcessEndedEarly(
                    "{role} {name} failed ({code}): {line}",
                    role=started.role,
                    name=started.name,
                    code=code,
                    line=started.last_log_line(),
                )

    def all_done(self) -> bool:
        """Return whether every process has ended without an error."""
        return all(started.process.poll() == 0 for started in self.processes)

    def _any_worker_left(self) -> bool:
        return any(started.role == "worker" and started.process.poll() is None for started in self.processes)

    def stop(self, signals: Sequence[int] = ()) -> None:
        """Send SIGTERM to every process, and kill those that do not end in time, with their children.

        Args:
            signals: the signals that this process has received. The first one ends the wait: all are killed.
        """
        trees = [tree for started in reversed(self.processes) for tree in _tree(started.process)]
        for started in reversed(self.processes):
            if started.process.poll() is None:
                started.process.terminate()
        alive, deadline = trees, time.monotonic() + STOP_TIMEOUT
        while alive and not signals and time.monotonic() < deadline:
            _, alive = psutil.wait_procs(alive, timeout=_CHECK_EVERY)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=_KILL_TIMEOUT)
        for started in self.processes:
            # Children of a killed process have lost their parent, but they are still in its process group.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(started.process.pid, signal.SIGKILL)
        self.processes.clear()

    def __enter__(self) -> Self:
        """Return the group itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every process."""
        with _signals_delayed() as signals:
            self.stop(signals)


@contextmanager
def _signals_delayed() -> Iterator[list[int]]:
    """Delay Ctrl-C and SIGTERM to the end of the block. Inside it, they could leave a process running.

    Yields the signals that have come so far.
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
