"""Starts the processes of the main job as a user would: a Celery worker, a producer, Flower."""

import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from baozi.broker import Broker
from baozi.process_group import ProcessGroup, StartedProcess
from baozi.workload import Workload

#: SIGTERM, which a service manager sends, starts Celery's soft shutdown: the worker finishes the tasks that
#: it has started, and the other messages return to the queue.
_SOFT_SHUTDOWN = {"REMAP_SIGTERM": "SIGQUIT"}
_FLOWER_CONFIGURATION = Path(__file__).parents[1] / "tasks" / "flowerconfig.py"


def start_worker(
    process_group: ProcessGroup,
    name: str,
    environment: Mapping[str, str],
    processes: int = 1,
    pool: str = "prefork",
    *,
    changes: Sequence[str] = (),
    before: Sequence[str] = (),
    folder: Path | None = None,
) -> StartedProcess:
    """Start a Celery worker that is the consumer ``name``.

    Args:
        process_group: the group to which it is added.
        name: the name of the consumer.
        environment: variables that are added to those of this process.
        processes: the number of its pool processes.
        pool: the kind of its pool.
        changes: settings of Celery, as ``broker_heartbeat=2``.
        before: a module with arguments that runs the worker, such as one that changes its clock.
        folder: the folder of another release of this project; default: this one.
    """
    arguments = [*before, "celery", "--quiet", "-A", "tasks", "worker", "-n", f"{name}@%h"]
    options = ["-P", pool, "-c", str(processes), *changes]
    return process_group.start(
        "worker", name, [*arguments, *options], {**_SOFT_SHUTDOWN, **environment}, folder
    )


def start_producer(
    process_group: ProcessGroup,
    name: str,
    workload: Workload,
    environment: Mapping[str, str],
    *,
    before: Sequence[str] = (),
    resume: bool = False,
) -> StartedProcess:
    """Start the producer ``name`` of ``workload``. It prints the course's lines.

    Args:
        process_group: the group to which it is added.
        name: the name of the producer.
        workload: the work of which it does its part.
        environment: variables that are added to those of this process.
        before: a module with arguments that runs the producer.
        resume: whether it goes on after what it had put before.
    """
    order = ["--name", name, "--run", workload.run, "--count", str(workload.per_producer)]
    order += ["--resume"] if resume else []
    order += ["--interval", str(workload.make_seconds)]
    return process_group.start("producer", name, [*before, "producers", *order, "--lines"], environment)


@dataclass(frozen=True, slots=True)
class Flower:
    """The URL of Flower, and its login."""

    url: str
    user: str
    password: str


def start_flower(process_group: ProcessGroup, broker: Broker, environment: Mapping[str, str]) -> Flower:
    """Start Flower, read-only, on a free port of loopback with a random password.

    Args:
        process_group: the group to which it is added.
        broker: the broker that it shows. The page of the queues needs its management API.
        environment: variables that are added to those of this process.
    """
    flower = Flower(f"http://127.0.0.1:{_free_port()}", "baozi", secrets.token_urlsafe(12))
    # These are variables, not options: every user of the machine can see a command line.
    secret = {
        "FLOWER_BASIC_AUTH": f"{flower.user}:{flower.password}",
        "FLOWER_COOKIE_SECRET": secrets.token_urlsafe(32),
    }
    if broker.management_url:
        login = urlsplit(broker.url).netloc.rpartition("@")[0]
        secret["FLOWER_BROKER_API"] = broker.management_url.replace("://", f"://{login}@") + "/api/"
    port = flower.url.rpartition(":")[2]
    options = ["--address=127.0.0.1", f"--port={port}", "--read_only", "--purge_offline_workers=300"]
    options.append(f"--conf={_FLOWER_CONFIGURATION}")
    # The arguments say which baozi of which run it was. That is more useful than a task's id.
    options.append("--tasks_columns=name,args,state,received,runtime,worker")
    process_group.start(
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
