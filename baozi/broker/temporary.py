"""A temporary RabbitMQ in its own folder, for comparisons, chaos and benchmarks."""

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

from baozi.amqp.connection import broker_errors, connect
from baozi.backoff import fixed_wait
from baozi.broker import container, engine, management, private_node
from baozi.broker.processes import marked, spawn
from baozi.broker.readiness import check_broker_answers
from baozi.broker.state import Folder, Record
from baozi.errors import BrokerAway, NoBroker, Unroutable

#: Seconds that a killed broker may take to answer again.
_REVIVAL = 60
#: Seconds between two attempts to reach it.
_REVIVAL_PAUSE = 0.2


@dataclass(frozen=True)
class TemporaryBroker:
    """A broker that this process has started, with what an administrator can do to it."""

    folder: Path
    record: Record

    @property
    def can_be_killed(self) -> bool:
        """Whether it has the same address after a restart. A container has other ports after each start."""
        return self.record.kind == "private"

    def processes(self) -> list[psutil.Process]:
        """Return its processes; none if it is in a container."""
        return marked(self.record.mark) if self.record.kind == "private" else []

    @contextmanager
    def virtual_host(self, name: str, default_queue_type: str = "classic") -> Iterator[str]:
        """Create a virtual host and yield its URL. At the end it is deleted, with all its queues.

        Args:
            name: the name of the virtual host.
            default_queue_type: the type of queues that are declared without a type (RabbitMQ guide "Virtual
                Hosts").

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
        """``kill -9`` the node, which has the messages. The port mapper (epmd) beside it goes on."""
        for process in self._node():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def revive(self) -> None:
        """Start the killed node again, with the same ports and data. Returns when it answers.

        Raises:
            BrokerAway: it does not answer within a minute.
        """
        program = private_node.server()
        environment = json.loads((self.folder / "environment.json").read_text())
        spawn([str(program)], environment, self.folder, "revival.log")
        tries = Retrying(
            retry=retry_if_exception_type(BrokerAway),
            stop=stop_after_delay(_REVIVAL),
            wait=fixed_wait(_REVIVAL_PAUSE),
            reraise=True,
        )
        tries(check_broker_answers, self.record.url, 2)

    def _node(self) -> list[psutil.Process]:
        return [process for process in self.processes() if process.name() != "epmd"]

    def _api(self, method: str, path: str, body: dict[str, str] | None = None) -> None:
        try:
            management.ask(self.record.management_url, self.record.url, method, path, body)
        except OSError as error:
            raise BrokerAway("The temporary broker does not answer: {error}.", error=error) from error


@contextmanager
def temporary_broker(kind: str | None = None, configuration: str = "") -> Iterator[TemporaryBroker]:
    """Start a broker, and stop it at the end.

    Args:
        kind: "private" or "container"; default: a private node if this machine can run one, else a container.
        configuration: lines of ``rabbitmq.conf``.

    Raises:
        NoBroker: this machine can run neither.
        BrokerNotStarted: it did not start.
    """
    # In the temporary folder, because the path of a Unix socket has at most 108 bytes.
    path = Path(tempfile.mkdtemp(prefix="baozi-"))
    folder = Folder(path)
    try:
        program = None if kind == "container" else private_node.server()
        if program is not None:
            (path / "conf.d").mkdir()
            (path / "conf.d" / "50-temporary.conf").write_text(configuration)
            record = private_node.start_node(folder, program, "a temporary broker")
            try:
                environment = psutil.Process(record.pid).environ()
                environment.pop("NOTIFY_SOCKET", None)  # the service manager's socket is not for this broker
                folder.write("environment.json", json.dumps(environment))
                yield TemporaryBroker(path, record)
            finally:
                # Its data is deleted, so a clean stop would save nothing.
                for process in marked(record.mark):
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                private_node.stop_node(record)
        elif kind != "private" and engine.answers():
            container.fetch_image()
            record = container.start_container(folder, "a temporary broker", configuration)
            try:
                yield TemporaryBroker(path, record)
            finally:
                container.stop_container(record)
                container.remove_data(record)
        else:
            raise NoBroker("Celery needs RabbitMQ: install rabbitmq-server or Docker, or leave celery out.")
    finally:
        shutil.rmtree(path, ignore_errors=True)


def can_run() -> bool:
    """Return whether this machine can run a temporary broker."""
    return private_node.server() is not None or engine.answers()


def queue_state(url: str, queue: str = "baozi") -> tuple[int, int]:
    """Return the number of ready messages and of consumers of ``queue``; zeros if it does not exist.

    Raises:
        BrokerError: the broker does not answer.
    """
    with connect("queue's state", url=url) as connection:
        channel: Any = connection.default_channel
        try:
            with broker_errors():
                declared = channel.queue_declare(queue, passive=True)
        except Unroutable:
            return 0, 0
        return int(declared.message_count), int(declared.consumer_count)


def consumer_count(url: str) -> int:
    """Return how many consumers the queue ``baozi`` has; 0 if it does not exist yet."""
    return queue_state(url)[1]
