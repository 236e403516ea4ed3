"""How the main job's processes are started: the very worker, producer and Flower that a user would start."""

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from side_by_side.crew import Crew, Member

#: SIGTERM, which a service manager sends, means a soft shutdown: finish what is begun, give back the rest.
_SOFT_SHUTDOWN = {"REMAP_SIGTERM": "SIGQUIT"}


def start_worker(
    crew: Crew, name: str, environment: Mapping[str, str], processes: int = 1, pool: str = "prefork"
) -> Member:
    """Start a Celery worker that is the consumer ``name``, with so many pool ``processes``."""
    arguments = ["celery", "--quiet", "-A", "tasks", "worker", "-n", f"{name}@%h"]
    options = ["-P", pool, "-c", str(processes)]
    return crew.start("worker", name, [*arguments, *options], {**_SOFT_SHUTDOWN, **environment})


def start_producer(
    crew: Crew, name: str, run: str, count: int, interval: float, environment: Mapping[str, str]
) -> Member:
    """Start a producer of ``count`` baozi, ``interval`` seconds apart, that prints the course's lines."""
    order = ["--name", name, "--run", run, "--count", str(count), "--interval", str(interval)]
    return crew.start("producer", name, ["producers", *order, "--lines"], environment)


@dataclass(frozen=True, slots=True)
class Flower:
    """Where Flower listens, and how to get in."""

    url: str
    user: str
    password: str


def start_flower(crew: Crew, management_url: str | None, environment: Mapping[str, str]) -> Flower:
    """Start Flower on a free port of loopback, behind a generated password, read-only.

    Args:
        crew: who starts it.
        management_url: the broker's management API with user and password, for the queues' page, or None.
        environment: variables besides this process's own.
    """
    flower = Flower(f"http://127.0.0.1:{_free_port()}", "baozi", secrets.token_urlsafe(12))
    # What Flower takes as FLOWER_… variables is not on its command line, which any user of the machine sees.
    secret = {
        "FLOWER_BASIC_AUTH": f"{flower.user}:{flower.password}",
        "FLOWER_COOKIE_SECRET": secrets.token_urlsafe(32),
    }
    if management_url:
        secret["FLOWER_BROKER_API"] = f"{management_url.rstrip('/')}/api/"
    port = flower.url.rpartition(":")[2]
    options = ["--address=127.0.0.1", f"--port={port}", "--read_only", "--purge_offline_workers=300"]
    crew.start(
        "flower",
        "flower",
        ["celery", "--quiet", "-A", "tasks", "flower", *options],
        {**environment, **secret},
    )
    return flower


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
