"""Row 7, ``manager-queue``: the standard library's only queue that two machines can share.

The course stops at one machine: a Queue is memory that its processes inherit. A Manager keeps an ordinary
queue in a server process, and whoever knows its address and its authkey may put and get over TCP.

It shows that producer and consumer stay as in row 4: only where the queue comes from has changed. Each part
also runs by itself, on a machine of its own: ``python -m local_mp manager-queue serve``, ``consume``…

It cannot outlive its server: the queue is memory there. It cannot tell that a client has died: what the
server takes out for one that was killed in ``get`` is lost. What travels is pickled, not encrypted: who has
the authkey can run code on the server and its clients, so keep it secret and the network private.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager
from queue import Queue
from typing import Any, cast

from baozi.errors import BrokerError
from baozi.journal import Journal
from baozi.workload import Workload
from local_mp import sentinel_queue
from local_mp.stage import Role, Stage

COURSE = Workload()


def producer(door: "Door", name: str, workload: Workload, journal: Journal) -> None:
    """Row 4's producer, at the Manager's queue."""
    with door.opened() as queue:
        sentinel_queue.producer(queue, name, workload, journal)


def consumer(door: "Door", name: str, workload: Workload, journal: Journal) -> None:
    """Row 4's consumer, at the Manager's queue."""
    with door.opened() as queue:
        sentinel_queue.consumer(queue, name, workload, journal)


def close(door: "Door", name: str, workload: Workload, journal: Journal) -> None:
    """Put one ``None`` for each consumer."""
    with door.opened() as queue:
        sentinel_queue.close(queue, name, workload, journal)


class ManagerAway(BrokerError):
    """The Manager went away; see that it runs (`manager-queue serve`)."""


class Manager(BaseManager):
    """Has one thing to give, the queue; its clients know it by that name."""


Manager.register("queue")


@dataclass(frozen=True)
class Door:
    """Where the Manager is, and the key to it."""

    host: str
    port: int
    authkey: bytes = field(repr=False)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Give the Manager's queue; ManagerAway if it is not there, not ours, or leaves meanwhile."""
        client = Manager((self.host, self.port), self.authkey)
        try:
            client.connect()
        except AuthenticationError:
            raise ManagerAway("The Manager has another authkey; give all parts the same.") from None
        except OSError as error:
            raise ManagerAway(f"No Manager answers at {self.host}:{self.port}: {error.strerror}.") from error
        try:
            yield cast(Any, client).queue()
        except (ConnectionError, EOFError) as error:
            raise ManagerAway from error


def serve(door: Door, capacity: int | None, ready: Callable[[int], None]) -> None:
    """Keep a queue of ``capacity`` items until Ctrl-C; tell ``ready`` the port. ManagerAway if taken."""
    queue: Queue[object] = Queue(capacity or 0)
    Manager.register("queue", callable=lambda: queue)
    try:
        server = Manager((door.host, door.port), door.authkey).get_server()
    except OSError as error:
        raise ManagerAway(f"Cannot listen at {door.host}:{door.port}: {error.strerror}.") from error
    ready(cast(tuple[str, int], server.address)[1])
    try:
        server.serve_forever()
    finally:
        print(f"the Manager is gone, and {queue.qsize()} items with it")


def store(inside: "tuple[Door, Connection]", _name: str, workload: Workload, _journal: Journal) -> None:
    """The server's process; it tells its parent the port."""
    door, parent = inside
    serve(door, workload.capacity, parent.send)


def run(stage: Stage) -> None:
    """Start the server, then all others as in row 4. Raises what Stage.wait does."""
    door = Door("127.0.0.1", 0, secrets.token_bytes(32))
    here, there = stage.mp.Pipe(duplex=False)
    stage.start(Role.STORE, store, (door, there), "manager")
    there.close()  # the server has its own: should it die, we hear the end
    door = replace(door, port=cast(int, stage.hear(here)))
    producers = [stage.start(Role.PRODUCER, producer, door, name) for name in stage.workload.producers]
    consumers = [stage.start(Role.CONSUMER, consumer, door, name) for name in stage.workload.consumers]
    stage.wait(producers)
    stage.start(Role.CLOSER, close, door, "close")
    stage.wait(consumers)
    stage.say("主进程")
