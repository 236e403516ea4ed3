"""Runs a program to its end and returns its output."""

import subprocess
from collections.abc import Sequence


def run_to_its_end(
    command: Sequence[str], *, timeout: float | None = None, start_new_session: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` without a terminal. The result's ``stdout`` contains stderr too.

    Args:
        command: the program and its arguments.
        timeout: seconds it may take; default: no limit.
        start_new_session: whether to protect it from a Ctrl-C at the terminal.

    Raises:
        OSError: the program cannot be run.
        subprocess.TimeoutExpired: it took longer and was killed.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
        start_new_session=start_new_session,
    )
