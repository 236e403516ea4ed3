"""The Docker engine, asked by its own command."""

import shutil
import subprocess

from baozi.broker.programs import run_to_its_end

#: Seconds that the engine may take to answer a question.
_ASK = 15
#: Ports that are tried for a container.
_TRIES = 5


def answers() -> bool:
    """Whether there is a ``docker`` command, and an engine that answers it."""
    return shutil.which("docker") is not None and docker("version", "--format", "{{.Server.Version}}")[0]


def inspected(name: str, what: str) -> str | None:
    """Return what the engine knows of the container ``name``, by a Go template; None if there is none."""
    done, said = docker("container", "inspect", "--format", what, name)
    return said.strip() if done else None


def start(name: str, timeout: float) -> tuple[bool, str]:
    """Start the container ``name``, once more where a port that the engine chose for it is in use.

    The engine knows which ports others listen on. It does not know those of their connections, and Linux
    takes both from one range (ip_local_port_range).

    Args:
        name: the container's.
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
    """Run the engine's own command.

    Args:
        words: its arguments.
        timeout: seconds it may take.

    Returns:
        Whether it did what it was told, and what it said.
    """
    try:
        done = run_to_its_end(["docker", *words], timeout=timeout)
    except OSError as error:
        return False, f"docker cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return False, f"the Docker engine did not answer within {timeout:.0f} seconds"
    return done.returncode == 0, done.stdout
