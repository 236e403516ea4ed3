"""How the main job's processes are started: the very worker, producer and Flower that a user would start."""

import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from baozi.broker import Broker
from baozi.workload import Workload
from side_by_side.crew import Crew, Member

#: SIGTERM, which a service manager sends, means a soft shutdown: finish what is begun, give back the rest.
_SOFT_SHUTDOWN = {"REMAP_SIGTERM": "SIGQUIT"}


def start_worker(
    crew: Crew,
    name: str,
    environment: Mapping[str, str],
    processes: int = 1,
    pool: str = "prefork",
    *,
    changes: Sequence[str] = (),
    before: Sequence[str] = (),
    folder: Path | None = None,
) -> Member:
    """Start a Celery worker that is the consumer ``name``.

    Args:
        crew: who starts it.
        name: the consumer's.
        environment: variables besides this process's own.
        processes: of its pool.
        pool: which.
        changes: settings of Celery's own, as ``broker_heartbeat=2``.
        before: a module, and its arguments, that runs the worker in a world of its own.
        folder: where another release of ours is; default: this one.
    """
    arguments = [*before, "celery", "--quiet", "-A", "tasks", "worker", "-n", f"{name}@%h"]
    options = ["-P", pool, "-c", str(processes), *changes]
    return crew.start("worker", name, [*arguments, *options], {**_SOFT_SHUTDOWN, **environment}, folder)


def start_producer(crew: Crew, name: str, workload: Workload, environment: Mapping[str, str]) -> Member:
    """Start the producer ``name`` of ``workload``; it prints the course's lines."""
    order = ["--name", name, "--run", workload.run, "--count", str(workload.per_producer)]
    order += ["--interval", str(workload.make_seconds)]
    return crew.start("producer", name, ["producers", *order, "--lines"], environment)


@dataclass(frozen=True, slots=True)
class Flower:
    """Where Flower listens, and how to get in."""

    url: str
    user: str
    password: str


def start_flower(crew: Crew, broker: Broker, environment: Mapping[str, str]) -> Flower:
    """Start Flower on a free port of loopback, behind a generated password, read-only.

    Args:
        crew: who starts it.
        broker: what it watches; the queues' page needs its management API.
        environment: variables besides this process's own.
    """
    flower = Flower(f"http://127.0.0.1:{_free_port()}", "baozi", secrets.token_urlsafe(12))
    # What Flower takes as FLOWER_… variables is not on its command line, which any user of the machine sees.
    secret = {
        "FLOWER_BASIC_AUTH": f"{flower.user}:{flower.password}",
        "FLOWER_COOKIE_SECRET": secrets.token_urlsafe(32),
    }
    if broker.management_url:
        login = urlsplit(broker.url).netloc.rpartition("@")[0]
        secret["FLOWER_BROKER_API"] = broker.management_url.replace("://", f"://{login}@") + "/api/"
    port = flower.url.rpartition(":")[2]
    options = ["--address=127.0.0.1", f"--port={port}", "--read_only", "--purge_offline_workers=300"]
    # Whose baozi it was, of which run, says more than a task's id.
    options.append("--tasks_columns=name,args,state,received,runtime,worker")
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
