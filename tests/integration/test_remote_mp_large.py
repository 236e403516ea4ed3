"""remote_mp: an item that is larger than the broker accepts raises in its own put, and in no other."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from baozi.errors import MessageRefused
from remote_mp import JoinableQueue, Queue
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state

LIMIT = 20_000
TOO_LARGE = "x" * (LIMIT + 1)


@pytest.fixture
def limited(private_place: Place) -> Iterator[Place]:
    """A broker that accepts messages of up to 20,000 bytes. The limit holds for new channels."""
    set_limit(private_place, LIMIT)
    yield private_place
    set_limit(private_place, 134_217_728)


def set_limit(place: Place, limit: int) -> None:
    place.node.control("eval", f"application:set_env(rabbit, max_message_size, {limit}).")


def all_of(q: Any) -> list[Any]:
    got = []
    while True:
        try:
            got.append(q.get(timeout=1))
        except queue.Empty:
            return got
        if isinstance(q, JoinableQueue):
            q.task_done()


@pytest.mark.parametrize("maxsize", [0, 100])
@pytest.mark.parametrize("cls", [Queue, JoinableQueue])
@pytest.mark.parametrize("window", [1, 2, 1000])
def test_it_raises_in_its_own_put_and_the_other_items_are_there_once(
    window: int, cls: Any, maxsize: int, limited: Place, make_queue_here: Callable[..., Any]
) -> None:
    q = make_queue_here(maxsize, cls=cls, window=window)
    wanted: list[Any] = []
    for number in range(30):
        if number % 7 == 3:
            with pytest.raises(MessageRefused, match=r"max_message_size is 20,000") as raised:
                q.put(TOO_LARGE + "x" * number)
            assert raised.value.limit == LIMIT
        q.put(number)
        wanted.append(number)
    assert all_of(q) == wanted
    if cls is JoinableQueue:
        q.join(30)
    q.close()
    q.join_thread()
    assert queue_state(limited.url, "remote_mp.q.q")[0] == 0


@pytest.mark.usefixtures("limited")
def test_items_of_other_threads_are_there_once(
    make_queue_here: Callable[..., Any],
) -> None:
    q = make_queue_here(cls=JoinableQueue, window=1000)
    q.put("first")
    refused = []

    def put(thread: int) -> None:
        for number in range(100):
            if number % 25 == 10:
                try:
                    q.put([thread, number, TOO_LARGE])
                except MessageRefused:
                    refused.append((thread, number))
            else:
                q.put([thread, number])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(4)))
    assert len(refused) == 16
    got = all_of(q)
    assert got[0] == "first"
    assert sorted(map(tuple, got[1:])) == [
        (thread, number) for thread in range(4) for number in range(100) if number % 25 != 10
    ]
    q.join(30)


@pytest.mark.usefixtures("limited")
def test_items_whose_batch_would_be_too_large_are_put(make_queue_here: Callable[..., Any]) -> None:
    q = make_queue_here(cls=Queue, window=5000)
    items = [f"{number:03}" + "x" * 1000 for number in range(500)]
    for item in items:
        q.put(item)
    assert all_of(q) == items


def test_after_the_limit_is_lowered_join_raises_and_then_waits_for_the_other_items(
    private_place: Place, make_queue_here: Callable[..., Any]
) -> None:
    q = make_queue_here(cls=JoinableQueue, window=1000)
    q.put("x" * 40_000)
    q.put("small")
    assert [q.get(timeout=30), q.get(timeout=30)] == ["x" * 40_000, "small"]
    q.task_done()
    q.task_done()
    q.join(30)
    private_place.node.close_connections(private_place.virtual_host)
    set_limit(private_place, LIMIT)
    try:
        may_send = threading.Event()
        send = q._opened.sender._publisher._open_channel
        q._opened.sender._publisher._open_channel = lambda deadline: may_send.wait(20) and send(deadline)
        for item in ("a", "y" * 30_000, "b"):
            q.put(item)
        may_send.set()
        with pytest.raises(MessageRefused):
            q.join(60)
        assert set(all_of(q)) == {"a", "b"}
        q.join(30)
    finally:
        set_limit(private_place, 134_217_728)


def test_a_limit_that_was_raised_is_noticed(
    private_place: Place, make_queue_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_mp.sending._LIMIT_REMEMBERED", 0)
    set_limit(private_place, LIMIT)
    q = make_queue_here(cls=Queue, window=100)
    with pytest.raises(MessageRefused):
        q.put(TOO_LARGE)
    set_limit(private_place, 134_217_728)
    q.put(TOO_LARGE)
    assert all_of(q) == [TOO_LARGE]


def test_an_item_larger_than_any_broker_accepts_is_refused_without_a_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("remote_mp.sending._LARGEST", 1000)
    for window in (1, 100):
        q = Queue[str](name="q", url="amqp://a:b@127.0.0.1:1/", window=window)
        with pytest.raises(MessageRefused, match="max_message_size is 1,000"):
            q.put("x" * 1000)
        q.cancel_join_thread()


def test_an_item_of_almost_the_default_limit_is_put(make_queue_here: Callable[..., Any]) -> None:
    q = make_queue_here(cls=Queue, window=1000)
    item = "x" * 16_000_000
    q.put(item)
    q.put("next")
    assert all_of(q) == [item, "next"]
