"""Runs ``docker`` commands."""

import shutil
import subprocess

from baozi.broker.programs import run_to_its_end

#: Seconds for one command of the engine.
_ASK = 15
#: How many times a container's start is tried, each time with other ports.
_TRIES = 5


def answers() -> bool:
    """Return whether there is a ``docker`` command and an engine that answers."""
    return shutil.which("docker") is not None and docker("version", "--format", "{{.Server.Version}}")[0]


def inspected(name: str, what: str) -> str | None:
    """Return the output of ``docker container inspect`` for a Go template; None without the container."""
    done, said = docker("container", "inspect", "--format", what, name)
    return said.strip() if done else None


def start(name: str, timeout: float) -> tuple[bool, str]:
    """Start the container ``name``. Try again if a port that the engine chose is in use.

    The engine avoids ports on which other processes listen, but not the local ports of connections. Linux
    takes both from one range (ip_local_port_range).

    Args:
        name: the container's name.
        timeout: seconds that each try may take.

    Returns:
        Whether it was started, and what the engine said.
    """
    for _ in range(_TRIES):
        done, said = docker("start", name, timeout=timeout)
        if done or "address already in use" not in said:
            break
    return done, said


def docker(*words: str, timeout: float = _ASK) -> tuple[bool, str]:
    """Run ``docker``.

    Args:
        words: its arguments.
        timeout: seconds it may take.

    Returns:
        Whether it succeeded, and its output.
    """
    try:
        done = run_to_its_end(["docker", *words], timeout=timeout)
    except OSError as error:
        return False, f"docker cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return False, f"the Docker engine did not answer within {timeout:.0f} seconds"
    return done.returncode == 0, done.stdout
