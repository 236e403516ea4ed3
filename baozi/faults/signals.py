"""Sends a signal to several processes. A process that has already ended is not an error."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send the signal ``number`` to each process."""
    for process in processes:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            os.kill(process.pid, number)


def kill(processes: Iterable[psutil.Process]) -> None:
    """``kill -9`` each process."""
    send(processes, signal.SIGKILL)
