"""Programs that a test runs to their end."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(
    command: Sequence[str],
    timeout: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` without input, and return its exit code and what it printed.

    Args:
        command: the program and its arguments.
        timeout: seconds after which it is killed and the test fails.
        folder: where it runs; default: where this process does.
        environment: all its variables; default: those of this process.
    """
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def bash(
    script: str, timeout: float, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a script that stops at its first error; the arguments are those of :func:`run`."""
    return run(["bash", "-euo", "pipefail", "-c", script], timeout, folder, environment)
