"""`docker compose` as a user runs it, under a project's name of its own and on free ports."""

import json
import os
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import randrange
from typing import Any

ROOT = Path(__file__).parents[2]
#: The image that docker-compose.yml takes.
IMAGE = os.environ.get("BAOZI_IMAGE", "baozi:0.1.0")
#: Seconds: for a build and the whole of the main job; for any other command.
_UP_TIMEOUT, _TIMEOUT = 600, 120


def free_port() -> str:
    """A port that nobody has now, below those that the system hands out itself: nobody gets it meanwhile."""
    while True:
        port = randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return str(port)


def secret(name: str) -> str:
    """A password of `.env`."""
    return dict(line.split("=", 1) for line in (ROOT / ".env").read_text().splitlines() if "=" in line)[name]


@dataclass
class Project:
    """One compose project: its name, and the variables that set it apart from others."""

    name: str
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take ports that nobody has."""
        for port in ("AMQP_PORT", "MANAGEMENT_PORT", "PROMETHEUS_PORT", "FLOWER_PORT"):
            self.variables.setdefault(port, free_port())

    def compose(
        self, *arguments: str, timeout: float = _TIMEOUT, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run one compose command to its end."""
        return subprocess.run(
            ["docker", "compose", "--project-name", self.name, *arguments],
            cwd=ROOT,
            env={**os.environ, **self.variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def up(self, *more: str) -> None:
        """Bring it up in the background."""
        done = self.compose("up", "--detach", *more, timeout=_UP_TIMEOUT)
        assert done.returncode == 0, done.stderr[-2000:]

    def remove(self) -> None:
        """Take it away with all its data; nothing has the time to say goodbye."""
        self.compose("--profile", "*", "kill")
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans")

    def services(self) -> dict[str, dict[str, Any]]:
        """Each container's state, by its service."""
        listed = self.compose("ps", "--all", "--format", "json").stdout
        return {one["Service"]: one for one in map(json.loads, listed.splitlines())}

    def logs(self, service: str) -> str:
        """What a service's containers have printed."""
        return self.compose("logs", "--no-log-prefix", service).stdout

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` in the broker's container."""
        return self.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", *arguments).stdout

    def sql(self, query: str, run: str = "") -> str:
        """What the ledger answers the auditor; in ``query``, ``:'run'`` is ``run``."""
        psql = ["psql", "--username", "auditor", "--dbname", "baozi", "--tuples-only", "--no-align"]
        done = self.compose("exec", "-T", "postgres", *psql, "--set", f"run={run}", stdin=query)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def as_user(self, service: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a Python ``program`` in a container of ``service``, with its user and its networks."""
        alone = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "python3", service]
        return self.compose(*alone, "-c", program, *arguments)
