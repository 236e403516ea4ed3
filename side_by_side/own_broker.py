"""A RabbitMQ of the comparison's own, in a folder of its own: nothing of the user's is touched."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_delay

from baozi.amqp.connection import connect, using
from baozi.broker import container, engine, management, private_node
from baozi.broker.processes import marked, spawn
from baozi.broker.readiness import knock
from baozi.broker.state import Folder, Record
from baozi.errors import BrokerAway, NoBroker, Unroutable
from baozi.pauses import steady

#: Seconds that a killed broker may take to be there again.
_REVIVAL = 60
#: Seconds between two attempts to reach it.
_REVIVAL_PAUSE = 0.2


@dataclass(frozen=True)
class OwnBroker:
    """The broker, and what an administrator does with it."""

    folder: Path
    record: Record

    @property
    def can_be_killed(self) -> bool:
        """Whether it comes back at the same address: a container's ports are others after each start."""
        return self.record.kind == "private"

    def processes(self) -> list[psutil.Process]:
        """Its processes; none that this machine shows, where it is in a container elsewhere."""
        return marked(self.record.mark) if self.record.kind == "private" else []

    @contextmanager
    def virtual_host(self, name: str, default_queue_type: str = "classic") -> Iterator[str]:
        """Make a virtual host, give its URL, and delete it at the end with all that is in it.

        Args:
            name: its name.
            default_queue_type: of queues whose declarer names none (RabbitMQ guide "Virtual Hosts").

        Raises:
            BrokerAway: the broker does not answer.
        """
        self._api("PUT", f"vhosts/{name}", {"default_queue_type": default_queue_type})
        try:
            yield urlsplit(self.record.url)._replace(path=f"/{name}").geturl()
        finally:
            with suppress(BrokerAway):
                self._api("DELETE", f"vhosts/{name}")

    def kill(self) -> None:
        """``kill -9`` what keeps the messages: the node, and not the port mapper beside it."""
        for process in self._node():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def revive(self) -> None:
        """Start the killed node again, with the same ports, on the same data; return when it answers.

        Raises:
            BrokerAway: it does not answer within a minute.
        """
        program = private_node.server()
        environment = json.loads((self.folder / "environment.json").read_text())
        spawn([str(program)], environment, self.folder, "revival.log")
        tries = Retrying(
            retry=retry_if_exception_type(BrokerAway),
            stop=stop_after_delay(_REVIVAL),
            wait=steady(_REVIVAL_PAUSE),
            reraise=True,
        )
        tries(knock, self.record.url, 2)

    def _node(self) -> list[psutil.Process]:
        return [process for process in self.processes() if process.name() != "epmd"]

    def _api(self, method: str, path: str, body: dict[str, str] | None = None) -> None:
        try:
            management.ask(self.record.management_url, self.record.url, method, path, body)
        except OSError as error:
            raise BrokerAway(f"The comparison's broker does not answer: {error}.") from error


@contextmanager
def own_broker(kind: str | None = None) -> Iterator[OwnBroker]:
    """Start a broker, and stop it at the end.

    Args:
        kind: "private" for a private node or "container"; default: a private node, or else a container.

    Raises:
        NoBroker: this machine can run neither.
        BrokerNotStarted: it has failed.
    """
    # Not below a user's folder: a Unix socket's path has 108 bytes at the most.
    path = Path(tempfile.mkdtemp(prefix="baozi-"))
    folder = Folder(path)
    try:
        program = None if kind == "container" else private_node.server()
        if program is not None:
            record = private_node.start_node(folder, program, "the comparison's own")
            try:
                environment = psutil.Process(record.pid).environ()
                environment.pop("NOTIFY_SOCKET", None)  # whoever listened there is gone
                folder.write("environment.json", json.dumps(environment))
                yield OwnBroker(path, record)
            finally:
                # Its data goes with it: there is nothing that a stop in good order could save.
                for process in marked(record.mark):
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                private_node.stop_node(record)
        elif kind != "private" and engine.answers():
            container.fetch_image()
            record = container.start_container(folder, "the comparison's own")
            try:
                yield OwnBroker(path, record)
            finally:
                container.stop_container(record)
                container.remove_data(record)
        else:
            raise NoBroker("Celery needs RabbitMQ: install rabbitmq-server or Docker, or leave celery out.")
    finally:
        shutil.rmtree(path, ignore_errors=True)


def can_run() -> bool:
    """Whether this machine can run a broker of the comparison's own."""
    return private_node.server() is not None or engine.answers()


def queue_state(url: str, queue: str = "baozi") -> tuple[int, int]:
    """How many messages are ready in ``queue``, and how many consumers it has; zeros if it is not there.

    Raises:
        BrokerError: the broker does not answer.
    """
    with connect("queue's state", url=url) as connection:
        channel: Any = connection.default_channel
        try:
            with using():
                declared = channel.queue_declare(queue, passive=True)
        except Unroutable:
            return 0, 0
        return int(declared.message_count), int(declared.consumer_count)


def consumer_count(url: str) -> int:
    """How many consumers the queue has at ``url``; 0 where there is no queue yet."""
    return queue_state(url)[1]
