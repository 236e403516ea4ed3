"""A RabbitMQ that the tests start, behind a proxy: its connections can be cut, and it can be killed."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from random import Random

from baozi.faults.proxy import NetworkCondition, Proxy
from baozi.prove.lab_broker import LabBroker

_numbers = count(1)


class FaultyBroker:
    """A separate virtual host on the RabbitMQ of the test session."""

    def __init__(self, node: LabBroker, virtual_host: str, proxy: Proxy) -> None:
        """Use ``virtual_host`` of ``node`` through ``proxy``."""
        self._node, self._proxy = node, proxy
        self.url = node.url_of(virtual_host, ("127.0.0.1", proxy.port))
        """The URL for workers and callers. It stays the same after a restart."""

    def cut(self) -> int:
        """Close each connection; return how many there were."""
        return self._proxy.cut()

    def freeze(self, seconds: float) -> None:
        """Let no byte through, in either direction, for so many seconds."""
        self._proxy.set_condition(NetworkCondition(up=False, down=False))
        try:
            time.sleep(seconds)
        finally:
            self._proxy.set_condition(NetworkCondition())

    def restart(self) -> None:
        """``kill -9`` the broker and start it again on its data. Returns when it answers."""
        if self._node.node is not None:
            self._node.node.kill(Random())
            self._node.node.revive()


@contextmanager
def behind_a_proxy(node: LabBroker) -> Iterator[FaultyBroker]:
    """Create a virtual host and a proxy for a test. At the end both are gone."""
    name = f"test-{next(_numbers)}"
    with node.virtual_host(name), closing(Proxy(node.address)) as proxy:
        yield FaultyBroker(node, name, proxy)
