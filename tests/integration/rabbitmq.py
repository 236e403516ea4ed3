"""A real RabbitMQ for the tests, and what an administrator does on it."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
from kombu import Connection

from baozi.broker import management, private_node
from baozi.broker.state import Folder
from tests.waiting import wait_until

#: Milliseconds until the management API shows a change. RabbitMQ's default is 5,000, which tests would wait.
_STATISTICS_EVERY = 500


@dataclass(frozen=True)
class Node:
    """One broker, by its AMQP and management URLs."""

    url: str
    management_url: str
    control: Callable[..., None]
    """Runs ``rabbitmqctl`` with the arguments given."""

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the management API as the administrator."""
        return management.ask(self.management_url, self.url, method, path, body)

    def user_url(self, user: str, password: str, virtual_host: str) -> str:
        """The AMQP URL for ``user`` on ``virtual_host``."""
        parts = urlsplit(self.url)
        return f"amqp://{user}:{password}@{parts.hostname}:{parts.port}/{quote(virtual_host, safe='')}"

    def make_virtual_host(self, name: str) -> str:
        """Make a virtual host; return the administrator's URL on it."""
        self.api("PUT", f"vhosts/{name}")
        parts = urlsplit(self.url)
        return self.user_url(str(parts.username), str(parts.password), name)

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Raise the memory alarm, and clear it at the end."""
        self.control("set_vm_memory_high_watermark", "0.000001")
        try:
            yield
        finally:
            self.control("set_vm_memory_high_watermark", "0.6")

    def blocked_connections(self) -> int:
        """How many connections are blocked by an alarm now."""
        return sum(one.get("state") in {"blocked", "blocking"} for one in self.api("GET", "connections"))

    def close_connections(self, virtual_host: str) -> None:
        """Close each connection to ``virtual_host``.

        The command fails, and leaves the others open, when one is just about to close by itself.
        """

        def closed() -> bool:
            try:
                self.control("close_all_connections", "--vhost", virtual_host, "a test closes them")
            except subprocess.CalledProcessError:
                return False
            return True

        wait_until(closed, "the broker to close connections", 60)

    def delete_virtual_host(self, name: str) -> None:
        """Delete it, with all that is in it."""
        self.api("DELETE", f"vhosts/{name}")

    def make_user(self, name: str, virtual_host: str, configure: str, write: str, read: str) -> str:
        """Make a user with these permissions on ``virtual_host``; return its URL."""
        self.api("PUT", f"users/{name}", {"password": "of-a-test", "tags": ""})
        permissions = {"configure": configure, "write": write, "read": read}
        self.api("PUT", f"permissions/{virtual_host}/{name}", permissions)
        return self.user_url(name, "of-a-test", virtual_host)


def queue_state(url: str, queue: str) -> tuple[int, int]:
    """How many messages are ready in ``queue``, and how many consumers it has; zeros if it is not there."""
    with Connection(url, connect_timeout=5) as connection:
        channel: Any = connection.default_channel
        try:
            declared = channel.queue_declare(queue, passive=True)
        except connection.channel_errors:
            return 0, 0
        return int(declared.message_count), int(declared.consumer_count)


@contextmanager
def private_rabbitmq(program: Path) -> Iterator[Node]:
    """Run this machine's RabbitMQ as a private node, which is gone at the end; ``program`` starts it."""
    # Not under pytest's folder: the path of a Unix socket has 108 bytes at most.
    home = Path(tempfile.mkdtemp(prefix="baozi-"))
    (home / "conf.d").mkdir()
    (home / "conf.d" / "10-tests.conf").write_text(f"collect_statistics_interval = {_STATISTICS_EVERY}\n")
    record = private_node.start_node(Folder(home), program, "the tests need it")

    def control(*arguments: str) -> None:
        environment = psutil.Process(record.pid).environ()
        subprocess.run(
            [program.parent / "rabbitmqctl", *arguments],
            env=environment,
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )

    try:
        # A quorum queue has an interval of its own, which no line of a configuration file sets in 3.10.
        control("eval", f"application:set_env(rabbit, quorum_tick_interval, {_STATISTICS_EVERY}).")
        yield Node(record.url, str(record.management_url), control)
    finally:
        private_node.stop_node(record)
        shutil.rmtree(home)
