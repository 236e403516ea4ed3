"""The brokers of the integration tests, for what is held to the same on each."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import remote_mp
from tests.conformance.kinds import Kind, spawn
from tests.integration.conftest import contained, node, private
from tests.integration.rabbitmq import Node

__all__ = ["contained", "kind", "node", "private"]

_names = count()


@pytest.fixture(scope="module", params=["multiprocessing", "private", "contained"])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """Each of them in turn."""
    if request.param == "multiprocessing":
        yield Kind(spawn.Queue, spawn.JoinableQueue, is_ours=False)
        return
    node: Node = request.getfixturevalue(request.param)
    virtual_host = f"interface-{next(_names)}"
    url = node.make_virtual_host(virtual_host)
    made: list[Any] = []

    def maker(cls: Any) -> Callable[..., Any]:
        def make(maxsize: int = 0) -> Any:
            made.append(cls(maxsize, name=f"queue-{next(_names)}", url=url))
            return made[-1]

        return make

    yield Kind(maker(remote_mp.Queue), maker(remote_mp.JoinableQueue), is_ours=True)
    for one in made:
        one.close()
        one.join_thread()
    node.delete_virtual_host(virtual_host)
