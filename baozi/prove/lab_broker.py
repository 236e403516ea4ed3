"""The broker of a lab: one that nothing else uses, or virtual hosts on one of the user's."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from baozi.broker import management
from baozi.broker.temporary import temporary_broker
from baozi.doctor.application import masked
from baozi.errors import BrokerAway
from baozi.faults.proxy import Address
from baozi.faults.single_node import SingleNode

#: Seconds between two heartbeats that the broker asks for. It closes a connection that is silent for about
#: twice as long. Celery's own value is 120; with that, each frozen worker would take minutes.
HEARTBEAT = 4


@dataclass
class LabBroker:
    """The broker of a lab, and what an administrator can do with it."""

    url: str = field(repr=False)
    management_url: str
    version: str | None = None
    node: SingleNode | None = None
    """The node that this process has started; None for a broker of the user's, which is not broken."""

    def address(self, _node: int = 0, /) -> Address:
        """Return where it listens now."""
        if self.node is not None:
            return self.node.address(0)
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 5672

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API.

        Raises:
            BrokerAway: it does not answer, or refuses.
        """
        where = self.node.broker.record.management_url if self.node is not None else self.management_url
        try:
            return management.ask(where, self.url, method, path, body)
        except OSError as error:
            raise BrokerAway(
                "The broker's management API does not answer: {error}.", error=masked(error)
            ) from None

    @contextmanager
    def virtual_host(self, name: str) -> Iterator[None]:
        """Create a virtual host. At the end it is deleted, with all its queues."""
        self.api("PUT", f"vhosts/{quote(name, safe='')}")
        try:
            yield
        finally:
            with suppress(BrokerAway):
                self.api("DELETE", f"vhosts/{quote(name, safe='')}")

    def url_of(self, virtual_host: str, address: Address) -> str:
        """Return the URL of a virtual host at ``address``, with the user and the password."""
        login = urlsplit(self.url).netloc.rpartition("@")[0]
        return f"amqp://{login}@{address[0]}:{address[1]}/{quote(virtual_host, safe='')}"


@contextmanager
def own_broker(kind: str | None) -> Iterator[LabBroker]:
    """Start a broker that nothing else uses, and stop it at the end.

    Args:
        kind: "private" or "container"; default: a private node if this machine can run one.
    """
    with temporary_broker(kind, f"heartbeat = {HEARTBEAT}\n") as broker:
        node = SingleNode(broker)
        yield LabBroker(broker.record.url, broker.record.management_url, broker.record.version, node)
