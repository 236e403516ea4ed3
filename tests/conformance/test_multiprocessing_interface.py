"""What the standard library's page says of Queue and JoinableQueue, held to theirs and to ours alike.

Each test has the sentence, from "multiprocessing — Process-based parallelism", Pipes and Queues. Where ours
differs, ``test_interface_differences.py`` says so and shows it.
"""

import gc
import inspect
import multiprocessing
import queue
import threading
import time
from typing import Any

import pytest

import remote_mp
from tests.conformance.kinds import A_WHILE, Kind, later, put_and_end, seconds, spawn
from tests.waiting import wait_until


def test_the_course_three_items_go_in_and_come_out_in_order(kind: Kind) -> None:
    """“Return True if the queue is full, False otherwise.” “Return True if the queue is empty […]”"""
    items = ["hello", [1, 2, 3, 4], {"name": "alex", "age": 15}]
    q = kind.queue(3)
    assert q.empty()
    assert not q.full()
    for item in items:
        q.put(item)
    assert q.full()
    wait_until(lambda: not q.empty(), "it not to be empty")
    assert [q.get(timeout=30) for _ in items] == items
    wait_until(q.empty, "it to be empty")
    assert not q.full()


def test_put_waits_for_a_free_slot(kind: Kind) -> None:
    """“If […] block is True […] and timeout is None […], block if necessary until a free slot
    is available.”"""
    q = kind.queue(1)
    q.put("first")
    began = time.monotonic()
    getter = later(q.get)
    q.put("second")
    assert time.monotonic() - began >= A_WHILE * 0.9
    getter.join()
    assert q.get(timeout=30) == "second"


def test_put_with_a_timeout_raises_full_in_time(kind: Kind) -> None:
    """“If timeout is a positive number, it blocks at most timeout seconds and raises the queue.Full […]”"""
    q = kind.queue(1)
    q.put("first")
    assert 0 < seconds(lambda: q.put("second", timeout=A_WHILE), queue.Full) < 5 * A_WHILE
    assert q.get(timeout=30) == "first"
    assert seconds(lambda: q.get(timeout=A_WHILE), queue.Empty) >= A_WHILE, "what was refused is there"


def test_put_without_waiting_raises_full_at_once(kind: Kind) -> None:
    """“[…] else raise the queue.Full exception (timeout is ignored in that case).”"""
    q = kind.queue(1)
    q.put_nowait("first")
    assert seconds(lambda: q.put("second", False, 60), queue.Full) < 5
    assert seconds(lambda: q.put_nowait("second"), queue.Full) < 5
    assert q.get(timeout=30) == "first"


def test_get_waits_for_an_item(kind: Kind) -> None:
    """“[…] block if necessary until an item is available.”"""
    q = kind.queue()
    began = time.monotonic()
    putter = later(lambda: q.put("late"))
    assert q.get() == "late"
    assert time.monotonic() - began >= A_WHILE * 0.9
    putter.join()


def test_get_with_a_timeout_raises_empty_in_time(kind: Kind) -> None:
    """“[…] it blocks at most timeout seconds and raises the queue.Empty exception if no item
    was available […]”"""
    q = kind.queue()
    q.put("to open it")
    assert q.get(timeout=30) == "to open it"
    assert A_WHILE * 0.9 <= seconds(lambda: q.get(timeout=A_WHILE), queue.Empty) < 10 * A_WHILE


def test_get_without_waiting_returns_what_is_there_or_raises_empty(kind: Kind) -> None:
    """“[…] return an item if one is immediately available, else raise […] (timeout is ignored in that
    case).”"""
    q = kind.queue()
    assert seconds(lambda: q.get(False, 60), queue.Empty) < 5
    assert seconds(q.get_nowait, queue.Empty) < 5
    q.put("there")
    # “[…] there may be an infinitesimal delay before […] get_nowait() can return without raising […].”
    wait_until(lambda: not q.empty(), "the item")
    assert q.get_nowait() == "there"


def test_the_approximate_size_is_how_many_wait(kind: Kind) -> None:
    """“Return the approximate size of the queue.”"""
    q = kind.queue()
    for number in range(3):
        q.put(number)
    wait_until(lambda: q.qsize() == 3, "three to be counted")
    q.get(timeout=30)
    wait_until(lambda: q.qsize() == 2, "two to be counted")


def test_a_closed_queue_takes_and_gives_nothing(kind: Kind) -> None:
    """“If the queue is closed, ValueError is raised instead of AssertionError.” Put and get both."""
    q = kind.queue()
    q.put("before")
    q.close()
    for do in (lambda: q.put("after"), lambda: q.put_nowait("after"), q.get, q.get_nowait):
        with pytest.raises(ValueError, match="is closed"):
            do()
    q.join_thread()


def test_the_thread_is_joined_after_close_only(kind: Kind) -> None:
    """“Join the background thread. This can only be used after close() has been called.”"""
    q = kind.queue()
    with pytest.raises((AssertionError, ValueError), match="not closed"):
        q.join_thread()
    q.put("something")
    q.close()
    q.join_thread()
    q.join_thread()


def test_a_process_that_ends_has_first_put_all_and_in_its_order(kind: Kind) -> None:
    """“[…] on exit it will attempt to join the queue's background thread”; “objects enqueued by the same
    process will always be in the expected order with respect to each other.”"""
    q = kind.queue()
    child = spawn.Process(target=put_and_end, args=(q, list(range(100))))
    child.start()
    assert [q.get(timeout=60) for _ in range(100)] == list(range(100))
    child.join(60)
    assert child.exitcode == 0


def put_and_end_without_flush(q: Any) -> None:
    q.cancel_join_thread()
    q.put("perhaps")


def test_a_process_may_end_without_a_flush(kind: Kind) -> None:
    """“Prevent join_thread() from blocking. […] allow_exit_without_flush().”"""
    q = kind.queue()
    child = spawn.Process(target=put_and_end_without_flush, args=(q,))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_a_joinable_queue_is_a_queue_with_two_methods_more(kind: Kind) -> None:
    """“JoinableQueue, a Queue subclass, is a queue which additionally has task_done() and join()
    methods.”"""
    q, joinable = kind.queue(), kind.joinable()
    assert isinstance(joinable, type(q))
    assert not hasattr(q, "task_done")
    assert not hasattr(q, "join")


def test_join_unblocks_when_all_is_done_and_not_before(kind: Kind) -> None:
    """“[…] it will resume when all items have been processed (meaning that a task_done() call was received
    for every item that had been put() into the queue).”"""
    q = kind.joinable()
    q.join()  # nothing was put, so that nothing is to be done
    for number in range(3):
        q.put(number)
    joined = threading.Event()

    def join() -> None:
        q.join()
        joined.set()

    joiner = threading.Thread(target=join)
    joiner.start()
    for _ in range(3):
        assert not joined.wait(A_WHILE / 3), "not all is done"
        q.get(timeout=30)
        assert not joined.wait(A_WHILE / 3), "all is got, but not done"
        q.task_done()
    assert joined.wait(30), "join did not return"
    joiner.join()
    q.put("one more")
    assert q.get(timeout=30) == "one more"
    q.task_done()
    q.join()


def test_one_task_done_too_many_raises_value_error(kind: Kind) -> None:
    """“Raises a ValueError if called more times than there were items placed in the queue.”"""
    q = kind.joinable()
    q.put("one")
    q.get(timeout=30)
    q.task_done()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()


def double(source: Any, target: Any) -> None:
    while (number := source.get()) is not None:
        target.put(2 * number)
        source.task_done()
    source.task_done()


def test_processes_share_it_and_the_count_of_unfinished_tasks(kind: Kind) -> None:
    """“Returns a process shared queue”; “Queues are thread and process safe.”; “[…] join() unblocks.”"""
    source, target = kind.joinable(), kind.queue()
    workers = [spawn.Process(target=double, args=(source, target)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(40):
        source.put(number)
    for _ in workers:
        source.put(None)
    source.join()
    assert sorted(target.get(timeout=30) for _ in range(40)) == [2 * number for number in range(40)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


def test_threads_share_it(kind: Kind) -> None:
    """“Queues are thread and process safe.”"""
    q = kind.joinable(4)
    got: list[int] = []

    def put(first: int) -> None:
        for number in range(first, first + 25):
            q.put(number)

    def get() -> None:
        for _ in range(25):
            got.append(q.get())
            q.task_done()

    threads = [threading.Thread(target=put, args=(25 * number,)) for number in range(3)]
    threads += [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(got) == list(range(75))
    q.join()


def test_it_is_closed_when_it_is_garbage_collected(kind: Kind) -> None:
    """“This is called automatically when the queue is garbage collected.”"""
    before = set(threading.enumerate())
    url = getattr(kind.queue(), "_url", None)
    q: Any = remote_mp.JoinableQueue(name="short-lived", url=url) if kind.is_ours else spawn.JoinableQueue()
    q.put("one")
    its_own = set(threading.enumerate()) - before
    assert its_own
    del q
    gc.collect()
    wait_until(lambda: not any(thread.is_alive() for thread in its_own), "its threads to end")


@pytest.mark.parametrize("name", ["Queue", "JoinableQueue"])
def test_each_method_has_the_parameters_of_multiprocessing(name: str) -> None:
    """“Queue implements all the methods of queue.Queue except for task_done() and join().”"""
    theirs, ours = getattr(multiprocessing.queues, name), getattr(remote_mp, name)
    methods = [it for it, of in inspect.getmembers(theirs, inspect.isfunction) if not it.startswith("_")]
    assert {"put", "get", "put_nowait", "get_nowait", "qsize", "empty", "full", "close"} <= set(methods)
    for method in methods:
        wanted = list(inspect.signature(getattr(theirs, method)).parameters.values())
        given = list(inspect.signature(getattr(ours, method)).parameters.values())
        assert [(it.name, it.default) for it in given[: len(wanted)]] == [
            (it.name, it.default) for it in wanted
        ]
        assert all(it.default is not it.empty for it in given[len(wanted) :])
