"""remote_mp where multiprocessing would lose: killed consumers, cut connections."""

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
def test_a_killed_consumer_has_its_item_given_to_another(
    make_queue: Callable[..., Any], maxsize: int
) -> None:
    q, taken = make_queue(maxsize), spawn.Queue()
    with running(take_and_hold, q, taken) as victim:
        q.put("in hand")
        assert taken.get(timeout=60) == "in hand"
        with pytest.raises(TimeoutError):
            q.join(0.1)
        victim.kill()
    assert q.get(timeout=60) == "in hand"
    q.task_done()
    q.join(30)


def test_a_killed_consumer_of_a_plain_queue_loses_as_its_option_says(
    make_queue_here: Callable[..., Any],
) -> None:
    for when in ("get", "next"):
        q, taken = make_queue_here(cls=Queue, name=when, acknowledge=when), spawn.Queue()
        with running(take_and_hold, q, taken) as victim:
            q.put("in hand")
            q.put("next")
            assert taken.get(timeout=60) == "in hand"
            if when == "get":
                # Acknowledged at once, but by a thread: it is not for us to see when.
                time.sleep(0.5)
            victim.kill()
        expected = ["next"] if when == "get" else ["in hand", "next"]
        assert sorted(q.get(timeout=30) for _ in expected) == expected
        with pytest.raises(queue.Empty):
            q.get(timeout=0.3)
        q.close()


def test_processes_join_what_they_put_whoever_eats_it(make_queue: Callable[..., Any]) -> None:
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


def test_a_child_may_be_joined_before_anybody_gets_what_it_put(make_queue_here: Callable[..., Any]) -> None:
    # More than a pipe holds: with multiprocessing's queue the child would wait for ever, and so would we.
    q, items = make_queue_here(window=100), [f"{number:0200}" for number in range(2000)]
    with running(put_all, q, items) as child:
        child.join(60)
        assert child.exitcode == 0
    assert [q.get(timeout=30) for _ in items] == items


@pytest.mark.parametrize("window", [1, 100])
def test_no_word_of_what_is_done_is_lost_when_the_broker_cuts_connections(
    make_queue: Callable[..., Any], place: Place, window: int
) -> None:
    q, eaten, allowed = make_queue(window=window, prefetch=10), spawn.Queue(), spawn.Semaphore(0)
    count, at_each_cut = 400, 100
    with running(eat_slowly, q, eaten, allowed), ThreadPoolExecutor(1) as pool:
        putting = pool.submit(lambda: [q.put(number) for number in range(count)])
        got = set()
        for _ in range(2):
            # So many are finished before, in and after the cut, and no more: others are always in flight.
            release(allowed, at_each_cut)
            got.add(eaten.get(timeout=60))
            cut_all(place)
        release(allowed, 10 * count)
        putting.result()
        q.join(60)
        while not eaten.empty():
            got.add(eaten.get())
    assert got == set(range(count))


def test_a_tray_of_which_one_is_unfinished_comes_again(make_queue_here: Callable[..., Any]) -> None:
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
        first.join_thread()  # the thirtieth, and what travelled with it
    assert got == list(range(30))
    last = make_queue_here()
    again = [last.get(timeout=30)]
    while again[-1] != 29:
        again.append(last.get(timeout=30))
    for _ in again:
        last.task_done()
    q.join(30)


def test_what_is_said_to_be_done_twice_is_counted_off_once(
    make_queue_here: Callable[..., Any], private_place: Place
) -> None:
    q = make_queue_here()
    q.put("first")
    q.put("second")
    with Connection(private_place.url) as connection:
        channel: Any = connection.default_channel
        address = channel.basic_get("remote_mp.q.q", no_ack=True).properties["reply_to"]

        def say_done(number: int) -> None:
            channel.basic_publish(channel.prepare_message(f"[{number}]".encode()), "", address)

        # As two consumers do, of whom one was taken for dead.
        say_done(0)
        say_done(0)
        with pytest.raises(TimeoutError, match="1"):
            q.join(1)
        say_done(1)
        q.join(30)
