"""remote_mp: killed consumers and cut connections, where multiprocessing would lose items."""

import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kombu import Connection

from remote_mp import Queue
from tests.integration.place import Place
from tests.integration.remote_queues import (
    cut_all,
    eat,
    eat_slowly,
    put_all,
    put_and_join,
    release,
    running,
    spawn,
    take_and_hold,
)


@pytest.mark.parametrize("maxsize", [0, 3])
def test_the_item_of_a_killed_consumer_is_redelivered(make_queue: Callable[..., Any], maxsize: int) -> None:
    q, taken = make_queue(maxsize), spawn.Queue()
    with running(take_and_hold, q, taken) as victim:
        q.put("unfinished")
        assert taken.get(timeout=60) == "unfinished"
        with pytest.raises(TimeoutError):
            q.join(0.1)
        victim.kill()
    assert q.get(timeout=60) == "unfinished"
    q.task_done()
    q.join(30)


def test_a_killed_consumer_of_a_plain_queue_loses_its_item_only_with_acknowledge_get(
    make_queue_here: Callable[..., Any],
) -> None:
    for when in ("get", "next"):
        q, taken = make_queue_here(cls=Queue, name=when, acknowledge=when), spawn.Queue()
        with running(take_and_hold, q, taken) as victim:
            q.put("unfinished")
            q.put("next")
            assert taken.get(timeout=60) == "unfinished"
            if when == "get":
                # A thread acknowledges it at once, but the test cannot see when.
                time.sleep(0.5)
            victim.kill()
        expected = ["next"] if when == "get" else ["next", "unfinished"]
        assert sorted(q.get(timeout=30) for _ in expected) == expected
        with pytest.raises(queue.Empty):
            q.get(timeout=0.3)
        q.close()


def test_join_waits_for_the_items_that_this_process_put_whichever_process_finishes_them(
    make_queue: Callable[..., Any],
) -> None:
    q, eaten, joined = make_queue(4), spawn.Queue(), spawn.Queue()
    with (
        running(eat, q, eaten),
        running(eat, q, eaten),
        running(put_and_join, q, list(range(30)), joined),
        running(put_and_join, q, list(range(100, 150)), joined),
    ):
        assert sorted(joined.get(timeout=90) for _ in range(2)) == [30, 50]
    got = sorted(eaten.get(timeout=30) for _ in range(80))
    assert got == [*range(30), *range(100, 150)]


def test_a_child_can_be_joined_before_its_items_are_got(make_queue_here: Callable[..., Any]) -> None:
    # More than a pipe holds: with multiprocessing's queue, the child and this process would wait for ever.
    q, items = make_queue_here(window=100), [f"{number:0200}" for number in range(2000)]
    with running(put_all, q, items) as child:
        child.join(60)
        assert child.exitcode == 0
    assert [q.get(timeout=30) for _ in items] == items


@pytest.mark.parametrize("window", [1, 100])
def test_no_done_notice_is_lost_when_the_broker_cuts_connections(
    make_queue: Callable[..., Any], place: Place, window: int
) -> None:
    q, eaten, allowed = make_queue(window=window, prefetch=10), spawn.Queue(), spawn.Semaphore(0)
    count, at_each_cut = 400, 100
    with running(eat_slowly, q, eaten, allowed), ThreadPoolExecutor(1) as pool:
        putting = pool.submit(lambda: [q.put(number) for number in range(count)])
        got = set()
        for _ in range(2):
            # No more than these are finished around the cut, so that other items are unfinished during it.
            release(allowed, at_each_cut)
            got.add(eaten.get(timeout=60))
            cut_all(place)
        release(allowed, 10 * count)
        putting.result()
        q.join(60)
        while len(got) < count:
            got.add(
                eaten.get(timeout=30)
            )  # a thread of the other process writes it, perhaps after the notice
    assert got == set(range(count))


def test_a_batch_with_one_unfinished_item_is_redelivered(make_queue_here: Callable[..., Any]) -> None:
    q = make_queue_here(window=100)
    for number in range(30):
        q.put(number)
    with pytest.raises(TimeoutError):
        q.join(0)
    with make_queue_here() as first:
        got = [first.get(timeout=30) for _ in range(30)]
        for _ in range(29):
            first.task_done()
        first.close()
        first.join_thread()  # the thirtieth item, and the others of its message, are redelivered
    assert got == list(range(30))
    last = make_queue_here()
    again = [last.get(timeout=30)]
    while again[-1] != 29:
        again.append(last.get(timeout=30))
    for _ in again:
        last.task_done()
    q.join(30)


def test_an_item_whose_done_notice_arrives_twice_is_counted_once(
    make_queue_here: Callable[..., Any], private_place: Place
) -> None:
    q = make_queue_here()
    q.put("first")
    q.put("second")
    with Connection(private_place.url) as connection:
        channel: Any = connection.default_channel
        address = channel.basic_get("remote_mp.q.q", no_ack=True).properties["reply_to"]

        def send_notice(number: int) -> None:
            channel.basic_publish(channel.prepare_message(f"[{number}]".encode()), "", address)

        # So do two consumers, if the broker took the first for dead and redelivered its item.
        send_notice(0)
        send_notice(0)
        with pytest.raises(TimeoutError, match="1"):
            q.join(1)
        send_notice(1)
        q.join(30)
