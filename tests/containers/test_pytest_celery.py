"""The main job on pytest-celery: its RabbitMQ, and workers of our own image, which are killed and stopped."""

import json
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_celery import (
    CeleryBrokerCluster,
    CeleryTestSetup,
    CeleryWorkerContainer,
    RabbitMQContainer,
    RabbitMQTestBroker,
)
from pytest_docker_tools import container, fxtr, volume

from tests.containers.compose import IMAGE, free_port
from tests.waiting import wait_until

RABBITMQ = "rabbitmq:4.3-management"
#: Seconds: to eat one baozi, so that a worker has one in hand; that a stopped worker may go on.
EAT, SOFT = 0.2, 2

#: Publishes what is no JSON.
POISON = """
from kombu import Connection
from baozi.settings import settings
with Connection(settings().broker_url.get_secret_value(), connect_timeout=5) as connection:
    producer = connection.Producer()
    producer.publish(b"{", exchange="baozi", routing_key="baozi", content_type="application/json")
"""

# pytest-celery hands over objects whose classes have no annotations.
Container = Any


class OurWorker(CeleryWorkerContainer):  # type: ignore[misc]  # it has no types
    """A worker as docker-compose.yml starts it; its ledger is in a volume, for those who share it."""

    @classmethod
    def command(cls, *arguments: str, **_: Any) -> list[str]:
        """What the container runs."""
        options = ["--loglevel", "INFO", "-c", "1", "-n", "小明@%h"]
        return ["celery", "-A", "tasks", "worker", *options, *arguments]

    @classmethod
    def initial_env(
        cls, celery_worker_cluster_config: dict[str, Any], initial: dict[str, str] | None = None
    ) -> dict[str, str]:
        """Where the broker is, by our own setting."""
        urls = celery_worker_cluster_config["celery_broker_cluster_config"]["urls"]
        ours = {
            "BAOZI_BROKER_URL": ";".join(urls),
            "BAOZI_EAT_SECONDS": str(EAT),
            "BAOZI_SOFT_SHUTDOWN_TIMEOUT": str(SOFT),
        }
        return ours | (initial or {})

    @classmethod
    def ports(cls) -> None:
        """None: a worker listens to nobody."""


@pytest.fixture
def default_rabbitmq_broker_image() -> str:
    """The broker that docker-compose.yml has, and no download."""
    return RABBITMQ


@pytest.fixture
def default_rabbitmq_broker_ports() -> dict[str, str]:
    """A port that no connection has: the engine's own choice may be one that has."""
    return {"5672/tcp": free_port()}


@pytest.fixture
def celery_broker_cluster(celery_rabbitmq_broker: RabbitMQTestBroker) -> Iterator[CeleryBrokerCluster]:
    """RabbitMQ alone."""
    cluster = CeleryBrokerCluster(celery_rabbitmq_broker)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster() -> None:
    """None: what is eaten stands in the ledger."""


@pytest.fixture
def default_worker_container_cls() -> type[CeleryWorkerContainer]:
    """Ours."""
    return OurWorker


@pytest.fixture(scope="session")
def default_worker_container_session_cls() -> type[CeleryWorkerContainer]:
    """Ours."""
    return OurWorker


home = volume()
default_worker_container = container(
    image=IMAGE,
    environment=fxtr("default_worker_env"),
    network="{default_pytest_celery_network.name}",
    volumes={"{home.name}": {"bind": "/var/lib/baozi", "mode": "rw"}},
    wrapper_class=OurWorker,
    timeout=90,
    command=fxtr("default_worker_command"),
    init=True,
)


@pytest.fixture
def system(
    celery_setup: CeleryTestSetup, default_pytest_celery_network: Any, home: Any
) -> Iterator["System"]:
    """A worker that is ready, on a broker of its own."""
    system = System(celery_setup, SimpleNamespace(network=default_pytest_celery_network, home=home))
    yield system
    system.leave()


class System:
    """One broker, its workers, their ledger."""

    def __init__(self, setup: CeleryTestSetup, places: SimpleNamespace) -> None:
        """Take what pytest-celery has set up."""
        self.broker: RabbitMQContainer = setup.broker.container
        self.worker: Container = setup.worker.container
        self._places = places
        self._others: list[str] = []

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours in a container beside the workers, with their ledger."""
        return subprocess.run(
            [*self._docker_run("--rm", **environment), IMAGE, *command],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    def more_workers(self, name: str) -> str:
        """Start one more worker, and return its container's name."""
        container_name = f"{self._places.network.name}-{len(self._others)}"
        self._others.append(container_name)
        command = ["celery", "-A", "tasks", "worker", "-c", "1", "-n", f"{name}@%h"]
        started = self._docker_run("--detach", "--init", "--name", container_name)
        subprocess.run([*started, IMAGE, *command], check=True, timeout=60, capture_output=True)
        return container_name

    def _docker_run(self, *options: str, **environment: str) -> list[str]:
        chosen = {
            "BAOZI_BROKER_URL": self.broker.url,
            "BAOZI_EAT_SECONDS": str(EAT),
            "BAOZI_SOFT_SHUTDOWN_TIMEOUT": str(SOFT),
        } | environment
        variables = [word for name, value in chosen.items() for word in ("--env", f"{name}={value}")]
        network = [
            "--network",
            self._places.network.name,
            "--volume",
            f"{self._places.home.name}:/var/lib/baozi",
        ]
        return ["docker", "run", *options, *network, *variables]

    def produce(self, run: str, count: int) -> None:
        """Put so many baozi, each confirmed."""
        done = self.run("baozi", "produce", "--name", "老王", "--run", run, "--count", str(count))
        assert done.returncode == 0, done.stderr

    def audit(self, run: str) -> dict[str, int]:
        """The sums of a run, once it has ended."""
        done = self.run("baozi", "audit", run, "--wait", "90", "--json")
        assert done.stdout, done.stderr
        total: dict[str, int] = json.loads(done.stdout.splitlines()[-1])["total"]
        return total

    def eaten(self) -> int:
        """How many the workers of the set-up have printed."""
        return str(self.worker.logs()).count("吃了老王")

    def wait_for_work(self, count: int) -> None:
        """Wait until some is eaten, and see that the most is not."""
        assert wait_until(lambda: self.eaten() > 3 and self.eaten(), "some to be eaten", 60) < count - 10

    def queue(self, name: str, number: str = "messages") -> int:
        """A number that the broker tells of a queue."""
        said = self.broker.exec_run(
            ["rabbitmqctl", "--silent", "list_queues", "name", number]
        ).output.decode()
        return int(dict(line.split("\t") for line in said.splitlines() if "\t" in line)[name])

    def stop_worker(self) -> int:
        """``docker stop`` the worker, and return its exit code."""
        name = self.worker.id
        subprocess.run(["docker", "stop", "--time", "30", name], check=True, timeout=60, capture_output=True)
        asked = ["docker", "inspect", "--format", "{{.State.ExitCode}}", name]
        return int(subprocess.run(asked, check=True, timeout=30, capture_output=True).stdout)

    def leave(self) -> None:
        """Take away the workers that pytest-celery does not know."""
        if self._others:
            subprocess.run(
                ["docker", "rm", "--force", *self._others], check=True, timeout=60, capture_output=True
            )


def sums(audited: dict[str, int]) -> tuple[int, int, int]:
    return audited["accepted"], audited["eaten"], audited["lost"]


def test_the_main_job_loses_nothing_and_dead_letters_the_poison_message(system: System) -> None:
    done = system.run("python3", "-c", POISON)
    assert done.returncode == 0, done.stderr
    system.produce("main", 20)
    audited = system.audit("main")
    assert sums(audited) == (20, 20, 0)
    assert audited["duplicated"] == 0
    assert system.eaten() == 20
    wait_until(lambda: system.queue("baozi.dead") == 1, "the poison to be among the dead letters", 30)


def test_a_broker_that_restarts_in_mid_work_loses_nothing(system: System) -> None:
    system.produce("restarted", 40)
    system.wait_for_work(40)
    system.broker.restart(timeout=10)
    assert sums(system.audit("restarted")) == (40, 40, 0)
    assert system.worker.status == "running"


def test_messages_of_a_stopped_or_killed_worker_are_redelivered(system: System) -> None:
    system.produce("gone", 60)
    system.wait_for_work(60)
    # 137 would say that Docker had to kill it.
    assert system.stop_worker() == 0
    eaten = system.eaten()
    # With them, the message that closes the order.
    left = 61 - eaten
    wait_until(
        lambda: system.queue("baozi", "messages_ready") == left, f"{left} messages to be in the queue again"
    )
    subprocess.run(["docker", "start", system.worker.id], check=True, timeout=60, capture_output=True)
    assert wait_until(lambda: system.eaten() > eaten + 3 and system.eaten(), "it to eat again", 60) < 50
    system.worker.kill()
    system.more_workers("小红")
    assert sums(system.audit("gone")) == (60, 60, 0)


def test_workers_come_and_go_under_load(system: System) -> None:
    system.produce("scaled", 200)
    system.wait_for_work(200)
    goes, _ = [system.more_workers(name) for name in ("小红", "小刚")]
    wait_until(lambda: system.queue("baozi", "consumers") == 3, "three to eat", 60)
    subprocess.run(["docker", "stop", "--time", "30", goes], check=True, timeout=90, capture_output=True)
    assert system.queue("baozi") > 0, "they came, and one went, when all was done"
    assert sums(system.audit("scaled")) == (200, 200, 0)
