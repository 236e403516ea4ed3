"""remote_mp on several hosts: producers in one container, consumers in two others, one of which is killed."""

import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest

from baozi.broker.container import IMAGE as RABBITMQ
from tests.containers.compose import IMAGE
from tests.waiting import wait_until

COUNT = 150
PRODUCERS = f"""
from multiprocessing import Process
from remote_mp import JoinableQueue
def produce(name):
    q = JoinableQueue(name="baozi")
    for number in range({COUNT}):
        q.put([name, number])
    q.join(120)
    print(name, "joined", flush=True)
processes = [Process(target=produce, args=(name,)) for name in ("alex", "egon")]
for process in processes: process.start()
for process in processes: process.join()
raise SystemExit(sum(process.exitcode for process in processes))
"""
CONSUMER = """
import time
from remote_mp import JoinableQueue
q = JoinableQueue(name="baozi", prefetch=10)
while True:
    name, number = q.get()
    time.sleep(0.05)
    print("ate", name, number, flush=True)
    q.task_done()
"""


class QueueHosts:
    """Containers with a broker, on a network of their own."""

    def __init__(self) -> None:
        self.name = f"baozi-hosts-{os.getpid()}"
        self._password = secrets.token_urlsafe(16)
        docker("network", "create", self.name)
        users = {"RABBITMQ_DEFAULT_USER": "baozi", "RABBITMQ_DEFAULT_PASS": self._password}
        self._run("broker", RABBITMQ, users)

    def python(self, host: str, program: str) -> None:
        """Run ``program`` in a new container named ``host``."""
        url = {"BAOZI_BROKER_URL": f"amqp://baozi:{self._password}@broker:5672/"}
        self._run(host, IMAGE, url, "python", "-c", program)

    def _run(self, host: str, image: str, environment: dict[str, str], *command: str) -> None:
        variables = [word for name in environment for word in ("--env", name)]
        where = ["--name", f"{self.name}-{host}", "--network", self.name, "--network-alias", host]
        docker("run", "--detach", "--init", *where, *variables, image, *command, **environment)

    def log(self, host: str) -> list[str]:
        """Return the lines of the container's log."""
        return docker("logs", f"{self.name}-{host}").splitlines()

    def remove(self) -> None:
        """Remove the containers and the network."""
        for name in docker("ps", "--all", "--quiet", "--filter", f"name={self.name}-").split():
            docker("rm", "--force", "--volumes", name)
        docker("network", "rm", self.name)


def docker(*words: str, **environment: str) -> str:
    done = subprocess.run(
        ["docker", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def hosts() -> Iterator[QueueHosts]:
    """A broker; a test adds hosts."""
    made = QueueHosts()
    try:
        wait_until(
            lambda: any("Server startup complete" in line for line in made.log("broker")), "RabbitMQ", 90
        )
        yield made
    finally:
        made.remove()


@pytest.mark.timeout(400)
def test_when_a_consumers_host_is_killed_no_item_is_lost_and_every_producer_joins(hosts: QueueHosts) -> None:
    for name in ("one", "other"):
        hosts.python(name, CONSUMER)
    hosts.python("producers", PRODUCERS)
    wait_until(lambda: min(len(hosts.log(it)) for it in ("one", "other")) > 5, "both to eat", 90)
    docker("kill", f"{hosts.name}-one")
    wait_until(lambda: len(hosts.log("producers")) == 2, "the producers to join", 120)
    assert docker("wait", f"{hosts.name}-producers").strip() == "0"
    assert sorted(hosts.log("producers")) == ["alex joined", "egon joined"]
    by_one, by_other = (set(hosts.log(name)) for name in ("one", "other"))
    assert by_one | by_other == {f"ate {name} {n}" for name in ("alex", "egon") for n in range(COUNT)}
    # At most one item was eaten and not acknowledged when the host was killed.
    assert len(by_one & by_other) <= 1
    assert 5 < len(by_one) < 2 * COUNT
