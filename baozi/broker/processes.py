"""Processes that outlive the command that started them, identified by a variable in their environment.

Children inherit this mark, whatever their session or parent, so all of them are found when the broker is
stopped. A reused process id or a changed clock causes no mistake.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from baozi.errors import BrokerNotStopped

#: The environment variable that contains the mark.
MARK = "BAOZI_BROKER_MARK"
#: Seconds to wait for the end of a process after SIGTERM or SIGKILL.
_LAST_WAIT = 5

#: Children of this process. They are kept to avoid zombies and ResourceWarnings.
_children: list[subprocess.Popen[bytes]] = []


def spawn(command: list[str], environment: dict[str, str], folder: Path, log: str) -> subprocess.Popen[bytes]:
    """Start ``command`` in a new session, without a terminal, with its output in the file ``log``.

    Raises:
        OSError: the command cannot be run.
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
    """Return whether the process is alive and has the mark. A zombie is not alive."""
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def is_alive(pid: int, mark: str) -> bool:
    """Return whether process ``pid`` is alive and has the mark."""
    try:
        return has_mark(psutil.Process(pid), mark)
    except psutil.Error:
        return False


def marked(mark: str) -> list[psutil.Process]:
    """Return all living processes that have the mark."""
    return [process for process in psutil.process_iter() if has_mark(process, mark)]


def end(mark: str, first: int | None, grace: float | None) -> bool:
    """End every process with the mark: first ``first``, then the others.

    Args:
        mark: their mark.
        first: the id of the process that is stopped first; None for none.
        grace: seconds that ``first`` has to end; None to kill all at once.

    Returns:
        Whether there was any process.

    Raises:
        BrokerNotStopped: some processes still run after they were killed.
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
            raise BrokerNotStopped("The broker's processes {pids} do not end.", pids=pids)
    _children[:] = [child for child in _children if child.poll() is None]
    return bool(found)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for ``condition``, at most ``seconds``. Return whether it became true."""
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
