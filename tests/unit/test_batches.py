"""When a batch goes out: before the event loop waits, but not before what is already there has been read."""

import gc
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from baozi.settings import settings
from baozi.worker.batch_execution import Item
from baozi.worker.batches import Batches
from baozi.worker.unsettled import Unsettled
from tasks.eating import EAT


class Loop:
    """What a batch needs of a worker; it does what it was asked to do soon when it is told to."""

    def __init__(self, own: socket.socket) -> None:
        self.soon: list[Any] = []
        self.sent: list[list[str]] = []
        limits = SimpleNamespace(time_limit=None, soft_time_limit=None)
        self.app = SimpleNamespace(tasks={EAT: limits})
        self.connection = SimpleNamespace(connection=SimpleNamespace(sock=own))
        self.task_buckets = {EAT: None}
        self.hostname = "小明@here"
        self.event_dispatcher = None
        self.pool = SimpleNamespace(num_processes=1, apply_async=self._send)
        self.call_soon = self.soon.append

    def _send(self, _: object, args: tuple[str, str, list[Item]], **__: object) -> object:
        self.sent.append([str(item.body) for item in args[2]])
        return object()

    def on_task_request(self, batches: Batches) -> None:
        batches.execute_using_pool(self.pool)

    def go_round(self) -> None:
        soon, self.soon[:] = list(self.soon), []
        for do in soon:
            do()


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    """The worker's loop, and the broker's end of its connection."""
    settings.cache_clear()
    own, other = socket.socketpair()
    yield Loop(own), other
    gc.unfreeze()  # for this process goes on to other things
    own.close()
    other.close()
    settings.cache_clear()


def message(number: int) -> Any:
    headers = {"task": EAT, "id": str(number)}
    return SimpleNamespace(
        headers=headers,
        body=f"{number}",
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )


def test_messages_that_have_arrived_are_executed_together_at_the_next_loop(
    ends: tuple[Any, socket.socket],
) -> None:
    loop, _ = ends
    batches = Batches(loop, Unsettled(), {EAT: 100})
    assert all(batches.take(message(number)) for number in range(3))
    assert loop.sent == []
    loop.go_round()
    assert loop.sent == [["0", "1", "2"]]
    # The pool has one process, and that has its hands full.
    batches.take(message(3))
    loop.go_round()
    assert loop.sent == [["0", "1", "2"]]
    assert loop.soon == []


def test_messages_that_are_still_to_be_read_join_the_batch(
    ends: tuple[Any, socket.socket],
) -> None:
    loop, other = ends
    batches = Batches(loop, Unsettled(), {EAT: 100})
    batches.take(message(0))
    other.send(b"more")
    for _ in range(3):
        loop.go_round()
        assert loop.sent == []
    loop.connection.connection.sock.recv(10)
    batches.take(message(1))
    loop.go_round()
    assert loop.sent == [["0", "1"]]


def test_batches_of_a_lost_connection_do_nothing_more(
    ends: tuple[Any, socket.socket],
) -> None:
    loop, _ = ends
    batches = Batches(loop, Unsettled(), {EAT: 100})
    batches.take(message(0))
    batches.end()
    loop.go_round()
    assert loop.sent == []
