"""When a batch goes out: before the event loop waits, but not before what is already there has been read."""

import gc
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from baozi.settings import settings
from baozi.worker.batch_execution import Answer, Finished, Item
from baozi.worker.batch_size import BatchSize
from baozi.worker.batches import Batches
from baozi.worker.prefetching import Prefetch
from baozi.worker.unsettled import Unsettled
from tasks.eating import EAT


class Loop:
    """What a batch needs of a worker; it does what it was asked to do soon when it is told to."""

    def __init__(self, own: socket.socket) -> None:
        self.soon: list[Any] = []
        self.sent: list[list[str]] = []
        self.answer: Any = None
        self.alone: list[str] = []
        limits = SimpleNamespace(name=EAT, time_limit=None, soft_time_limit=None)
        self.app = SimpleNamespace(tasks={EAT: limits})
        self.connection = SimpleNamespace(connection=SimpleNamespace(sock=own))
        self.task_buckets = {EAT: None}
        self.hostname = "小明@here"
        self.event_dispatcher = None
        self.pool = SimpleNamespace(num_processes=1, apply_async=self._send)
        self.call_soon = lambda *do: self.soon.append(do)

    def _send(
        self, _: object, args: tuple[str, str, list[Item], float | None], callback: Any, **__: object
    ) -> object:
        self.sent.append([str(item.body) for item in args[2]])
        self.answer = callback
        return object()

    def receive_alone(self, one: Any) -> None:
        self.alone.append(one.body)

    def on_task_request(self, batches: Batches) -> None:
        batches.execute_using_pool(self.pool)

    def go_round(self) -> None:
        soon, self.soon[:] = list(self.soon), []
        for do, *arguments in soon:
            do(*arguments)


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
    batches = Batches(loop, Unsettled(), {EAT: BatchSize(100)})
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
    batches = Batches(loop, Unsettled(), {EAT: BatchSize(100)})
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
    batches = Batches(loop, Unsettled(), {EAT: BatchSize(100)})
    batches.take(message(0))
    batches.end()
    loop.go_round()
    assert loop.sent == []


def measured(loop: Any, *numbers: int, prefetch: Prefetch | None = None) -> Batches:
    """Batches of a measured size that is now 4, and these messages waiting."""
    size = BatchSize(100, longest_s=0.05)
    size.now = 4
    acknowledging: Any = SimpleNamespace(acknowledge=lambda _: None)
    batches = Batches(loop, acknowledging, {EAT: size}, prefetch)
    for number in numbers:
        assert batches.take(message(number))
    return batches


def test_messages_for_which_a_batch_had_no_time_are_the_next_ones(ends: tuple[Any, socket.socket]) -> None:
    loop, _ = ends
    measured(loop, *range(6))
    loop.go_round()
    loop.answer(Answer([Finished(0, "None", 0.06)], failed=[2], not_begun=[1, 3]))
    loop.go_round()
    assert loop.alone == ["2"]
    for _ in range(2):
        loop.answer(Answer([Finished(0, "None", 0.06)], failed=[], not_begun=[]))
        loop.go_round()
    assert loop.sent == [["0", "1", "2", "3"], ["1"], ["3"], ["4"]], "each alone, because it is slow"


def test_messages_of_a_task_that_is_executed_alone_are_not_taken(ends: tuple[Any, socket.socket]) -> None:
    loop, _ = ends
    batches = measured(loop, 0)
    loop.go_round()
    loop.answer(Answer([Finished(0, "None", 0.06)], failed=[], not_begun=[]))
    loop.go_round()
    assert not batches.take(message(1))
    batches.executed_alone(EAT, 0.01)
    loop.go_round()
    assert batches.take(message(2)), "it is fast again"


def test_a_worker_whose_functions_became_slow_returns_its_surplus_messages(
    ends: tuple[Any, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, _ = ends
    now: list[float] = [100.0]
    changes: list[int] = []
    requeued: list[int] = []
    monkeypatch.setattr("baozi.worker.prefetching.time.monotonic", lambda: now[0])
    prefetch = Prefetch(1, 100, 0.05, changes.append)
    prefetch.size.now = 4
    prefetch.adapt()
    batches = measured(loop, prefetch=prefetch)
    for number in range(6):
        one = message(number)
        one.requeue = lambda number=number: requeued.append(number)
        assert batches.take(one)
    loop.go_round()
    now[0] += 5
    loop.answer(Answer([Finished(0, "None", 0.06)], failed=[], not_begun=[1, 2, 3]))
    for _ in range(3):
        loop.go_round()
    assert changes == [8, 1]
    assert sorted(requeued) == [3, 4, 5], "one is in the pool process, and one is next"
