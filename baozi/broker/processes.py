"""Processes that outlive the command that started them, known by a mark in their environment.

A mark is what a service manager's control group is: children inherit it, whatever session or parent they get,
so none is forgotten when the whole is stopped. Neither a reused process id nor a changed clock deceives it.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from baozi.errors import BrokerNotStopped

#: The environment variable that carries the mark.
MARK = "BAOZI_BROKER_MARK"
#: Seconds a process that was told to end, or killed, may take to be gone.
_LAST_WAIT = 5

#: Children of this very process, kept so that none stays a zombie, nor ends in a ResourceWarning.
_children: list[subprocess.Popen[bytes]] = []


def spawn(command: list[str], environment: dict[str, str], folder: Path, log: str) -> subprocess.Popen[bytes]:
    """Start ``command`` as a service manager would: its own session, no terminal, output to a file.

    Raises:
        OSError: it cannot be run.
    """
    with (folder / log).open("wb") as output:
        child = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children.append(child)
    return child


def has_mark(process: psutil.Process, mark: str) -> bool:
    """Whether the process lives and carries the mark; a zombie does not live."""
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def is_alive(pid: int, mark: str) -> bool:
    """Whether process ``pid`` lives and is still the one that was marked."""
    try:
        return has_mark(psutil.Process(pid), mark)
    except psutil.Error:
        return False


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that carries the mark."""
    return [process for process in psutil.process_iter() if has_mark(process, mark)]


def end(mark: str, first: int | None, grace: float | None) -> bool:
    """End every process with the mark: ``first`` with ``grace`` seconds to do it well, then the others.

    Args:
        mark: their mark.
        first: which process is asked first.
        grace: seconds; None: all are killed.

    Returns:
        Whether there was any.

    Raises:
        BrokerNotStopped: some are there even after they were killed.
    """
    found = marked(mark)
    if grace is not None and first is not None and is_alive(first, mark):
        psutil.Process(first).terminate()
        wait_until(lambda: not is_alive(first, mark), grace)
    for process in marked(mark):
        _signal(process.kill if grace is None else process.terminate)
    if not wait_until(lambda: not marked(mark), _LAST_WAIT):
        for process in marked(mark):
            _signal(process.kill)
        if not wait_until(lambda: not marked(mark), _LAST_WAIT):
            pids = ", ".join(str(process.pid) for process in marked(mark))
            raise BrokerNotStopped(f"The broker's processes {pids} do not end.")
    _children[:] = [child for child in _children if child.poll() is None]
    return bool(found)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for ``condition``, at most ``seconds``, and return whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied:
        raise BrokerNotStopped("The broker is another user's; only that user or root can stop it.") from None
