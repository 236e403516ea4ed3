"""remote_mp: a queue is garbage-collected, in any thread and while any lock is held."""

import gc
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from remote_mp import Queue
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.integration.remote_queues import run_program
from tests.waiting import wait_until

IN_A_CYCLE = """
import gc, sys, threading
import remote_mp
from remote_mp import JoinableQueue, Queue
from remote_mp.window_sending import WindowSender
from remote_mp.connection_thread import KeptConnection
gc.disable()
where = {place!r}
collected = threading.Event()

def collecting(function):
    def collect(self, *arguments, **more):
        if collect.armed and threading.current_thread().name.startswith("remote_mp"):
            collect.armed = False
            gc.collect()
            collected.set()
        return function(self, *arguments, **more)
    collect.armed = False
    return collect

if where == "sender":
    WindowSender._on_confirmed = watched = collecting(WindowSender._on_confirmed)
else:
    KeptConnection._make_calls = watched = collecting(KeptConnection._make_calls)

def use():
    q = Queue(name="q", window=5000)
    cycle = [q]
    cycle.append(cycle)
    if where == "connection":
        q.qsize()
    for number in range({count}):
        q.put(number)
    watched.armed = True
    if where == "connection":
        wake = q._opened.receiver._connection.wake
    else:
        wake = lambda: None
    return wake

wake = use()
wake()
if where == "elsewhere":
    gc.collect()
else:
    assert collected.wait(60), "nothing was collected in that thread"
"""


@pytest.mark.parametrize("where", ["sender", "connection", "elsewhere"])
def test_a_queue_in_a_cycle_that_is_collected_in_its_own_thread_loses_no_item(
    where: str, private_place: Place, make_queue_here: Callable[..., Any]
) -> None:
    count = 20_000
    done = run_program(IN_A_CYCLE.format(place=where, count=count), private_place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    q = make_queue_here(cls=Queue)
    assert [q.get(timeout=30) for _ in range(count)] == list(range(count))
    with pytest.raises(queue.Empty):
        q.get(timeout=0.3)


@pytest.mark.parametrize("window", [1, 100])
def test_a_queue_that_is_collected_while_a_lock_of_threading_is_held_does_not_block(
    window: int, private_place: Place
) -> None:
    before = set(threading.enumerate())
    q: Any = Queue(name="q", url=private_place.url, window=window)
    q.put("one")
    q.qsize()
    its_own = set(threading.enumerate()) - before
    gone = weakref.ref(q)
    cycle = [q]
    cycle.append(cycle)
    del q, cycle
    with threading._active_limbo_lock:  # type: ignore[attr-defined]  # Thread.start takes it, and so does the thread
        gc.collect()
        assert gone() is None
    wait_until(lambda: not any(thread.is_alive() for thread in its_own), "its threads to end")
    assert queue_state(private_place.url, "remote_mp.q.q") == (1, 0)


def test_many_queues_are_collected_in_each_others_threads(
    private_place: Place, make_queue_here: Callable[..., Any]
) -> None:
    program = """
import gc
from remote_mp import Queue
gc.set_threshold(50, 2, 2)
for number in range(30):
    q = Queue(name="q", window=100)
    q.me = q
    for item in range(50):
        q.put([number, item])
"""
    done = run_program(program, private_place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    q = make_queue_here(cls=Queue)
    got = [tuple(q.get(timeout=30)) for _ in range(1500)]
    assert sorted(got) == [(number, item) for number in range(30) for item in range(50)]


def test_a_large_garbage_collection_leaves_open_queues_open(make_queue_here: Callable[..., Any]) -> None:
    q = make_queue_here(window=100)
    for number in range(200):
        q.put(number)
        if not number % 20:
            gc.collect()
    assert [q.get(timeout=30) for _ in range(200)] == list(range(200))
