"""The brokers that the integration tests run on, each test on a virtual host of its own."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from baozi.broker import container, install, private_node
from baozi.broker.state import Folder
from baozi.process_group import ProcessGroup
from tests.integration.place import Place
from tests.integration.rabbitmq import Node, private_rabbitmq
from tests.integration.remote_queues import making
from tests.requirements import need, need_engine

_virtual_hosts = count()


@pytest.fixture(scope="session")
def private() -> Iterator[Node]:
    """The machine's own RabbitMQ, as a private node."""
    if private_node.server() is None and install.can_install():
        install.install()
    program = private_node.server()
    need(program is not None, "this machine has no rabbitmq-server")
    assert program is not None
    with private_rabbitmq(program) as node:
        yield node


@pytest.fixture(scope="session")
def contained() -> Iterator[Node]:
    """RabbitMQ 4.3 in a container."""
    need_engine()
    home = Path(tempfile.mkdtemp(prefix="baozi-"))
    folder = Folder(home)
    record = container.start_container(folder, "the tests need it")

    def control(*arguments: str) -> None:
        subprocess.run(
            ["docker", "exec", record.mark, "rabbitmqctl", *arguments],
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )

    yield Node(record.url, str(record.management_url), control)
    container.stop_container(record)
    # Stopping keeps the data, which here is nobody's.
    subprocess.run(["docker", "volume", "rm", folder.identity().name], check=True, timeout=60)
    shutil.rmtree(home)


@pytest.fixture(scope="session", params=["private", "contained"])
def node(request: pytest.FixtureRequest) -> Node:
    """Each of the two versions that the project supports."""
    chosen: Node = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def place(node: Node, tmp_path: Path) -> Iterator[Place]:
    """A place on each of the two versions."""
    yield from _place(node, tmp_path)


@pytest.fixture
def private_place(private: Node, tmp_path: Path) -> Iterator[Place]:
    """A place on the private node only, where the broker's version makes no difference."""
    yield from _place(private, tmp_path)


def _place(node: Node, home: Path) -> Iterator[Place]:
    virtual_host = f"test-{next(_virtual_hosts)}"
    with ProcessGroup(home / "logs") as process_group:
        yield Place(node, virtual_host, home, process_group)
    node.delete_virtual_host(virtual_host)


@pytest.fixture
def make_queue(place: Place) -> Iterator[Callable[..., Any]]:
    """Makes queues of remote_mp, on each version, and closes them."""
    yield from making(place)


@pytest.fixture
def make_queue_here(private_place: Place) -> Iterator[Callable[..., Any]]:
    """The same where the broker's version makes no difference."""
    yield from making(private_place)
