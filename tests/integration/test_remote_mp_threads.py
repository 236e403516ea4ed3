"""remote_mp: a thread that ends, long timeouts, closed queues, and the end of a process."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from remote_mp import JoinableQueue, Queue, ThreadEnded
from remote_mp.receiving import Receiver
from remote_mp.window_sending import WindowSender
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.integration.remote_queues import run_program
from tests.waiting import wait_until


class UnforeseenError(BaseException):
    """An error that is not an Exception."""


ERRORS = [
    *(KeyError(1), ValueError("a time in milliseconds"), RecursionError(), MemoryError(), AssertionError()),
    *(SystemExit(3), KeyboardInterrupt(), GeneratorExit(), UnforeseenError(), StopIteration()),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_when_the_connections_thread_ends_all_waiting_calls_raise_and_the_next_call_works(
    error: BaseException, make_queue_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_queue_here()
    q.put("one")
    assert q.qsize() == 1
    q.get(timeout=30)
    fail = threading.Event()
    work = Receiver.work

    def work_or_fail(self: Receiver) -> bool:
        if fail.is_set():
            raise error
        return work(self)

    monkeypatch.setattr(Receiver, "work", work_or_fail)
    waiting: list[Callable[[], object]] = [q.get, q.get, q.join, lambda: q.get(timeout=60)]
    with ThreadPoolExecutor(len(waiting)) as pool:
        calls = [pool.submit(call) for call in waiting]
        wait_until(lambda: len(q._opened.receiver._waiting) == 3, "three to wait")
        fail.set()
        q._opened.receiver._connection.wake()
        for call in calls:
            with pytest.raises(ThreadEnded, match=f"thread ended .{type(error).__name__}"):
                call.result(30)
        for do in (q.get, lambda: q.get(timeout=60), q.get_nowait, q.qsize, q.empty, lambda: q.join(60)):
            began = time.monotonic()
            with pytest.raises(ThreadEnded) as raised:
                do()
            assert raised.value.__cause__ is error
            assert time.monotonic() - began < 20
    fail.clear()
    q.put("two")
    assert {q.get(timeout=30), q.get(timeout=30)} == {"one", "two"}
    for _ in range(3):  # "one" was got twice: the first time through a connection that is lost
        q.task_done()
    q.join(30)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_when_the_senders_thread_ends_all_waiting_calls_raise_and_no_item_is_lost(
    error: BaseException, make_queue_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_queue_here(window=3)
    q.put("first")
    fail = threading.Event()
    may_fail = threading.Event()
    send = WindowSender._send

    def send_or_fail(self: WindowSender) -> None:
        if fail.is_set():
            assert may_fail.wait(60)
            raise error
        send(self)

    monkeypatch.setattr(WindowSender, "_send", send_or_fail)
    fail.set()
    for item in "abc":
        q.put(item)  # as many as the window has room for
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(q.put, "d"), pool.submit(q.join)]
        with pytest.raises(TimeoutError):
            calls[0].result(0.3)
        may_fail.set()
        for call in calls:
            with pytest.raises(ThreadEnded, match=f"thread ended .{type(error).__name__}"):
                call.result(30)
    fail.clear()
    q.put("e")
    got = [q.get(timeout=30) for _ in range(5)]
    assert got == ["first", "a", "b", "c", "e"]
    for _ in got:
        q.task_done()
    q.join(30)


def test_calls_that_wait_raise_when_another_thread_closes_the_queue(
    make_queue_here: Callable[..., Any],
) -> None:
    q = make_queue_here()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(q.get), pool.submit(q.get, True, 60)]
        wait_until(lambda: q._opened is not None and len(q._opened.receiver._waiting) == 2, "two to wait")
        q.close()
        q.join_thread()
        for call in calls:
            with pytest.raises(ValueError, match="is closed"):
                call.result(30)
    for do in (q.get, q.get_nowait, q.qsize, q.empty, q.join, q.task_done, lambda: q.put(1)):
        with pytest.raises(ValueError, match="is closed"):
            do()
    q.close()
    q.join_thread()
    q.cancel_join_thread()


@pytest.mark.parametrize("window", [1, 1000])
@pytest.mark.parametrize(
    "ending", ["", "raise SystemExit(0)", "q.close()", "q.close(); q.join_thread()", "del q"]
)
def test_all_items_are_on_the_broker_when_the_process_has_ended(
    ending: str, window: int, private_place: Place
) -> None:
    program = f"""
from remote_mp import Queue
q = Queue(name="q", window={window})
for number in range(500):
    q.put("x" * 100)
{ending}
"""
    done = run_program(program, private_place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    reader = Queue[str](name="q", url=private_place.url)
    with reader:
        for _ in range(500):
            assert reader.get(timeout=30) == "x" * 100
        with pytest.raises(queue.Empty):
            reader.get(timeout=0.3)


def test_a_process_that_cannot_put_its_last_items_reports_it_when_it_ends() -> None:
    program = """
from remote_mp import Queue
from remote_mp.window_sending import WindowSender
q = Queue(name="q", url="amqp://a:secret@127.0.0.1:1/", window=10)
WindowSender._wait_for, wait_for = lambda self, seen: seen(), WindowSender._wait_for
q.put("lost")
WindowSender._wait_for = wait_for
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "BAOZI_BROKER_TIMEOUT": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert "some items that were put are not on the broker" in line
    assert "does not answer" in line
    assert "secret" not in line


@pytest.mark.parametrize("prefetch", [7, 100])
@pytest.mark.parametrize("cls", [Queue, JoinableQueue])
def test_prefetched_items_of_a_closed_queue_return_in_order(
    cls: Any, prefetch: int, private_place: Place, make_queue_here: Callable[..., Any]
) -> None:
    source, other = make_queue_here(cls=cls), make_queue_here(cls=cls)
    for number in range(51):
        source.put(number)
    first = make_queue_here(cls=cls, prefetch=prefetch)
    assert first.get(timeout=30) == 0
    first.close()
    wait_until(lambda: ready(private_place) == 50, "the others to return to the queue")
    assert [other.get(timeout=30) for _ in range(50)] == list(range(1, 51))


@pytest.mark.parametrize("cls", [Queue, JoinableQueue])
def test_prefetched_items_of_a_process_that_stopped_calling_get_return_in_order(
    cls: Any, private_place: Place, make_queue_here: Callable[..., Any]
) -> None:
    source, other, first = (make_queue_here(cls=cls) for _ in range(3))
    for number in range(51):
        source.put(number)
    assert first.get(timeout=30) == 0
    assert [other.get(timeout=30) for _ in range(50)] == list(range(1, 51))
    source.put(51)
    wait_until(lambda: ready(private_place) == 1, "neither to have the last item")
    assert first.get(timeout=30) == 51


def ready(place: Place) -> int:
    return queue_state(place.url, "remote_mp.q.q")[0]


@pytest.mark.parametrize("window", [1, 100])
@pytest.mark.parametrize("prefetch", [1, 3, 100])
def test_unfinished_items_do_not_make_get_wait(
    prefetch: int, window: int, make_queue_here: Callable[..., Any]
) -> None:
    q, count = make_queue_here(window=window, prefetch=prefetch), 2 * prefetch + 5
    for number in range(count):
        q.put(number)
    with ThreadPoolExecutor(1) as pool:
        try:
            assert [pool.submit(q.get).result(30) for _ in range(count)] == list(range(count))
        finally:
            q.close()
            q.join_thread()


@pytest.mark.parametrize("timeout", [0, -1, 0.0, 1e-9])
@pytest.mark.parametrize("maxsize", [0, 1])
def test_a_timeout_of_no_time_works(
    maxsize: int, timeout: float, make_queue_here: Callable[..., Any]
) -> None:
    q = make_queue_here(maxsize)
    with pytest.raises(queue.Empty):
        q.get(timeout=timeout)
    q.put("one", timeout=timeout)
    if maxsize:
        with pytest.raises(queue.Full):
            q.put("two", timeout=timeout)
    with pytest.raises(TimeoutError):
        q.join(timeout)
    assert q.get(timeout=timeout) == "one"
    with pytest.raises(queue.Empty):
        q.get(timeout=timeout)
    q.task_done()
    q.join(30)


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, threading.TIMEOUT_MAX * 2])
def test_the_longest_timeouts_work(timeout: float, make_queue_here: Callable[..., Any]) -> None:
    q = make_queue_here(2)
    with ThreadPoolExecutor(1) as pool:
        getting = pool.submit(q.get, True, timeout)
        with pytest.raises(TimeoutError):
            getting.result(0.3)
        q.put("late", timeout=timeout)
        assert getting.result(30) == "late"
        joining = pool.submit(q.join, timeout)
        q.task_done()
        joining.result(30)


def test_a_queue_that_is_used_in_its_own_thread_raises_there(make_queue_here: Callable[..., Any]) -> None:
    q = make_queue_here(window=10)
    q.put("one")
    raised: list[BaseException] = []

    def use(_channel: Any) -> None:
        try:
            q._opened.receiver._connection.wait_for(lambda: False, None)
        except RuntimeError as error:
            raised.append(error)

    q._opened.receiver._connection.call_in_thread(use, lambda _: None)
    assert "in the queue's own thread" in str(raised[0])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_a_process_with_open_queues_have_their_own(method: str, private_place: Place) -> None:
    program = f"""
import multiprocessing, queue, warnings
from remote_mp import JoinableQueue

def work(q, answers, all_done):
    while not all_done.is_set():
        try:
            item = q.get(timeout=0.5)
        except queue.Empty:
            continue
        answers.put(item + 1)
        q.task_done()

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    context = multiprocessing.get_context({method!r})
    q, answers = JoinableQueue(name="q", window=100), JoinableQueue(5, name="answers")
    q.put(0)
    q.get_nowait()  # it prefetches nothing, so that the children get all other items
    q.task_done()
    all_done = context.Event()
    children = [context.Process(target=work, args=(q, answers, all_done)) for _ in range(3)]
    for child in children:
        child.start()
    for number in range(60):
        q.put(number)
    got = set()  # an item may come twice
    while len(got) < 60:
        got.add(answers.get(timeout=60))
        answers.task_done()
    q.join(60)
    all_done.set()
    for child in children:
        child.join(60)
        assert child.exitcode == 0, child.exitcode
    assert sorted(got) == list(range(1, 61)), sorted(got)
    print("all")
"""
    home = private_place.home
    (home / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=home,
        env={**os.environ, **private_place.environment()},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "all\n", "")
