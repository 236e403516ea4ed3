"""Three RabbitMQ nodes in containers, configured as in docker-compose.cluster.yml, to inject faults into."""

import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from baozi.broker import container, engine
from baozi.broker.engine import docker, inspected
from baozi.broker.failure import reason
from baozi.broker.readiness import check_broker_answers
from baozi.errors import BrokerAway, BrokerNotStarted, NoBroker
from baozi.faults.proxy import Address

#: The host names by which the nodes find each other.
_HOSTS = ("rabbitmq-1", "rabbitmq-2", "rabbitmq-3")
#: As in deploy/rabbitmq/cluster.conf: the queues' leaders are spread over the nodes.
_CONF = "\n".join(
    (
        "cluster_formation.peer_discovery_backend = classic_config",
        *(f"cluster_formation.classic_config.nodes.{it[-1]} = rabbit@{it}" for it in _HOSTS),
        "queue_leader_locator = balanced",
    )
)
_USER = "baozi"
#: Seconds: for the engine to start or stop a container; for a command inside; for all nodes to be one
#: cluster; between two checks.
_ENGINE, _COMMAND, _ONE_CLUSTER, _CHECK_EVERY = 60, 60, 120, 0.5
#: Bytes of memory that a node may use.
_MEMORY = 1024**3


class DockerCluster:
    """The three nodes. Clients use ports of loopback. The nodes use their own network."""

    path = "/%2F"
    nodes = len(_HOSTS)

    def __init__(self) -> None:
        """Choose a random name and password. Nothing is started yet."""
        self.name = f"baozi-{secrets.token_hex(4)}"
        self.version: str | None = None
        self._password = secrets.token_urlsafe(24)
        self._cookie = secrets.token_urlsafe(24)
        self._ports = [0] * self.nodes
        self._away: set[int] = set()
        # RFC 2544 reserves these addresses for tests. A node keeps its address when it is cut off.
        self._subnet = f"198.18.{secrets.randbelow(256)}.{16 * secrets.randbelow(16)}/28"

    def start(self) -> None:
        """Start the nodes. Returns when they are one cluster.

        Raises:
            BrokerNotStarted: they are not; the message says why.
        """
        _done(docker("network", "create", "--internal", "--subnet", self._subnet, self.name, timeout=_ENGINE))
        with tempfile.TemporaryDirectory() as folder:  # only this user can read it
            environment, conf = Path(folder) / "environment", Path(folder) / "conf"
            environment.write_text(
                f"RABBITMQ_DEFAULT_USER={_USER}\nRABBITMQ_DEFAULT_PASS={self._password}\n"
                f"RABBITMQ_ERLANG_COOKIE={self._cookie}\n"
            )
            conf.write_text(_CONF + "\n")
            conf.chmod(0o644)  # the node runs as another user
            for node in range(self.nodes):
                self._create(node, environment, conf)
        for node in range(self.nodes):
            self._start_node(node)
        self._wait(lambda: len(self._running()) == self.nodes, "the nodes to be one cluster")
        self.version = check_broker_answers(f"amqp://{self.login}@127.0.0.1:{self._ports[0]}{self.path}", 5)

    def _create(self, node: int, environment: Path, conf: Path) -> None:
        _done(
            docker(
                *("create", "--name", self._container(node), "--hostname", _HOSTS[node]),
                *("--env-file", str(environment), "--memory", str(_MEMORY)),
                *("--publish", "127.0.0.1::5672", container.IMAGE),
                timeout=_ENGINE,
            )
        )
        _done(docker("cp", str(conf), f"{self._container(node)}:/etc/rabbitmq/conf.d/91-cluster.conf"))
        self._connect(node)

    def _connect(self, node: int) -> None:
        first, _, last = self._subnet.partition("/")[0].rpartition(".")
        address = f"{first}.{int(last) + 2 + node}"  # the first two are the network's and its gateway's
        identity = ("--ip", address, "--alias", _HOSTS[node])
        _done(docker("network", "connect", *identity, self.name, self._container(node)))

    def _start_node(self, node: int) -> None:
        _done(engine.start(self._container(node), timeout=_ENGINE))
        ports = json.loads(inspected(self._container(node), "{{json .NetworkSettings.Ports}}") or "{}")
        # The port changes with each start.
        self._ports[node] = int(ports["5672/tcp"][0]["HostPort"])
        self._away.discard(node)

    def remove(self) -> None:
        """Remove the nodes, their data and their network. What does not exist is no error."""
        for node in range(self.nodes):
            docker("rm", "--force", "--volumes", self._container(node), timeout=_ENGINE)
        docker("network", "rm", self.name)

    def _container(self, node: int) -> str:
        return f"{self.name}-{node + 1}"

    def address(self, node: int) -> Address:
        """Return where ``node`` listens now."""
        return "127.0.0.1", self._ports[node]

    @property
    def login(self) -> str:
        """``user:password`` of the only user."""
        return f"{_USER}:{self._password}"

    def kill(self, chance: Random) -> None:
        """``kill -9`` one of them."""
        self.kill_node(int(chance.random() * self.nodes))

    def kill_node(self, node: int) -> None:
        """``kill -9`` the node with this number."""
        _done(docker("kill", self._container(node), timeout=_ENGINE))
        self._away.add(node)

    def revive(self) -> None:
        """Start the killed nodes again. Returns when the queue has a member on every node again.

        Raises:
            BrokerAway: it has not.
        """
        for node in sorted(self._away):
            self._start_node(node)
        self._wait_for_members()

    def restart(self, node: int) -> None:
        """Stop one node cleanly, and start it again. Returns when the queue has a member on every node."""
        _done(docker("stop", "--time", "30", self._container(node), timeout=_ENGINE))
        self._away.add(node)
        self.revive()

    def cut_off(self, node: int) -> None:
        """Cut one node off from the others, but not from its clients."""
        _done(docker("network", "disconnect", self.name, self._container(node)))
        self._away.add(node)

    def join(self, node: int) -> None:
        """End the cut. Returns when the queue has a member on every node again.

        Raises:
            BrokerAway: it has not.
        """
        self._connect(node)
        self._away.discard(node)
        self._wait_for_members()

    def leader(self) -> int:
        """Return the node of the queue's leader."""
        return _HOSTS.index(str(self._queue()["leader"]).partition("@")[2])

    def online(self) -> Sequence[int]:
        """Return the nodes whose member of the queue is online, by the knowledge of a majority."""
        return [_HOSTS.index(str(node).partition("@")[2]) for node in self._queue()["online"]]

    def _queue(self) -> dict[str, Any]:
        listed = self.control("list_queues", "--silent", "--formatter", "json", "name", "leader", "online")
        found: dict[str, Any] = next(it for it in json.loads(listed) if it["name"] == "baozi")
        return found

    def _running(self) -> list[str]:
        status = self.control("cluster_status", "--silent", "--formatter", "json")
        running: list[str] = json.loads(status)["running_nodes"]
        return running

    def _wait_for_members(self) -> None:
        self._wait(lambda: len(self.online()) == self.nodes, "the queue to have a member on every node")

    def _wait(self, seen: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _ONE_CLUSTER
        while True:
            try:
                if seen():
                    return
                said = ""
            except (BrokerAway, ValueError, StopIteration) as error:  # it has only just started
                said = f" {error}"
            if time.monotonic() > deadline:
                raise BrokerAway(
                    "Waited {one_cluster} s in vain for {what}.{said}",
                    one_cluster=_ONE_CLUSTER,
                    what=what,
                    said=said,
                )
            time.sleep(_CHECK_EVERY)

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on the first node that is neither killed nor cut off; return what it prints.

        Raises:
            BrokerAway: it failed.
        """
        node = next(node for node in range(self.nodes) if node not in self._away)
        done, said = docker("exec", self._container(node), "rabbitmqctl", *arguments, timeout=_COMMAND)
        if not done:
            raise BrokerAway("rabbitmqctl {command} failed: {said}.", command=arguments[0], said=reason(said))
        return said


def _done(answer: tuple[bool, str]) -> None:
    done, said = answer
    if not done:
        raise BrokerNotStarted("The cluster cannot be started: {said}.", said=reason(said))


@contextmanager
def docker_cluster() -> Iterator[DockerCluster]:
    """Start the nodes, and remove them at the end.

    Raises:
        NoBroker: no Docker engine answers.
        BrokerNotStarted, BrokerAway: they are not one cluster in time.
    """
    if not engine.answers():
        raise NoBroker("A cluster needs a Docker engine, but none answers.")
    container.fetch_image()
    with ExitStack() as stack:
        nodes = DockerCluster()
        stack.callback(nodes.remove)
        nodes.start()
        yield nodes
