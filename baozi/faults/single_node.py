"""One RabbitMQ node to inject faults into: a private node of this machine, or a node in a container."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit

from baozi.broker import container, private_node
from baozi.broker.state import Folder
from baozi.broker.temporary import TemporaryBroker, temporary_broker
from baozi.errors import BrokerAway
from baozi.faults.proxy import Address

#: Seconds that ``rabbitmqctl`` may take.
_CONTROL = 60


@dataclass
class SingleNode:
    """One node. In a container it has other ports after each start."""

    broker: TemporaryBroker
    path: str = "/%2F"
    nodes: int = 1

    @property
    def version(self) -> str | None:
        """Its version of RabbitMQ; None if it is unknown."""
        return self.broker.record.version

    def address(self, _node: int, /) -> Address:
        """Return where it listens now."""
        host, _, port = urlsplit(self.broker.record.url).netloc.rpartition("@")[2].rpartition(":")
        return host, int(port)

    @property
    def login(self) -> str:
        """``user:password`` of its only user."""
        return urlsplit(self.broker.record.url).netloc.rpartition("@")[0]

    def kill(self, _chance: Random, /) -> None:
        """``kill -9`` the node."""
        if self.broker.record.kind == "private":
            self.broker.kill()
        else:
            container.kill_container(self.broker.record)

    def revive(self) -> None:
        """Start it again on its data. Returns when it answers."""
        if self.broker.record.kind == "private":
            self.broker.revive()
        else:
            record = container.restart_container(Folder(self.broker.folder), self.broker.record)
            self.broker = TemporaryBroker(self.broker.folder, record)

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``, and return what it prints.

        Raises:
            BrokerAway: it failed.
        """
        done = subprocess.run(
            self._command(*arguments),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=_CONTROL,
            check=False,
        )
        if done.returncode:
            raise BrokerAway(
                "rabbitmqctl {command} failed: {output}",
                command=arguments[0],
                output=(done.stderr or done.stdout).strip(),
            )
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        if self.broker.record.kind == "container":
            return ["docker", "exec", self.broker.record.mark, "rabbitmqctl", *arguments]
        program = private_node.server()
        if program is None:
            raise BrokerAway("This machine's rabbitmq-server has been removed.")
        return [str(program.parent / "rabbitmqctl"), *arguments]

    def _environment(self) -> dict[str, str] | None:
        if self.broker.record.kind == "container":
            return None
        environment: dict[str, str] = json.loads((self.broker.folder / "environment.json").read_text())
        return environment


@contextmanager
def single_node(kind: str) -> Iterator[SingleNode]:
    """Start a node of this kind, "private" or "container", and stop it at the end.

    Raises:
        NoBroker, BrokerNotStarted: it cannot be started.
    """
    with temporary_broker(kind) as broker:
        yield SingleNode(broker)
