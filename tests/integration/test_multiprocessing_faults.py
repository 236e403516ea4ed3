"""What multiprocessing does when things die, row by row of the comparison: real kills of real processes.

Processes are forked on purpose: what is shown here is the kernel's and the Queue's doing, the same with every
start method, and a fork is there in a millisecond. So nothing here puts from the test's own process, where a
Queue would start a thread, which a fork must not find.
"""

import fcntl
import multiprocessing
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import managers
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import pytest

from tests.waiting import wait_until

#: How often each row is reproduced; it must go the same way every time.
TRIES = 5

#: Seconds after which what has not come is held never to come. All that is awaited here takes milliseconds.
NEVER = 0.4

#: More small items than a pipe's 64 KiB hold, so that most of them are still in the producer when it dies.
MANY = 20_000

mp = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True, params=range(TRIES))
def attempt(request: pytest.FixtureRequest) -> int:
    """Which try of the row it is: each test runs ``TRIES`` times."""
    return cast(int, request.param)


@contextmanager
def running(work: Callable[..., None], *args: object) -> Iterator[BaseProcess]:
    """A process that does ``work``, and is gone at the end whatever happens."""
    process = mp.Process(target=work, args=args)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def kill(process: BaseProcess) -> None:
    """``kill -9`` one that is alive, and see it dead."""
    assert process.is_alive(), "it was dead before it was killed"
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def put(channel: Any, *items: object) -> None:
    """Put the items from a process of their own that ends in good order, so that all of them arrive."""
    with running(put_all, channel, items) as putter:
        putter.join(30)
        assert putter.exitcode == 0


def put_all(channel: Any, items: tuple[object, ...]) -> None:
    for item in items:
        channel.put(item)


def reader_lock_is_held(channel: Any) -> bool:
    """Whether some process is inside ``get``: the Queue's own lock tells."""
    lock = vars(channel)["_rlock"]
    if lock.acquire(block=False):
        lock.release()
        return False
    return True


def got_within(channel: Any, seconds: float) -> list[Any]:
    """All that comes until nothing has come for so many seconds."""
    items = []
    try:
        while True:
            items.append(channel.get(timeout=seconds))
    except queue.Empty:
        return items


# --- a consumer


def get_for_ever(channel: Any) -> None:
    while True:
        channel.get()


def get_one_and_eat_for_ever(channel: Any, eating: Any) -> None:
    channel.get()
    eating.set()
    time.sleep(3600)


def test_a_consumer_killed_while_it_waits_in_get_wedges_the_queue_for_all() -> None:
    channel = mp.Queue()
    with running(get_for_ever, channel) as consumer:
        wait_until(lambda: reader_lock_is_held(channel), "the consumer to wait in get")
        kill(consumer)
    put(channel, "there it is")
    assert channel.qsize() == 1
    assert got_within(channel, NEVER) == []
    assert reader_lock_is_held(channel)


def test_a_consumer_killed_while_it_eats_loses_its_item_and_the_queue_still_works() -> None:
    channel, eating = mp.Queue(), mp.Event()
    put(channel, "in hand", "still there")
    with running(get_one_and_eat_for_ever, channel, eating) as consumer:
        assert eating.wait(30), "the consumer never ate"
        kill(consumer)
    assert got_within(channel, NEVER) == ["still there"]


# --- a producer


def put_many_and_stay(channel: Any, all_put: Any) -> None:
    for number in range(MANY):
        channel.put(number)
    all_put.set()
    time.sleep(3600)


def kill_right_after_put(channel: Any) -> None:
    """Have ``MANY`` put by a process that is killed as soon as the last put has returned."""
    all_put = mp.Event()
    with running(put_many_and_stay, channel, all_put) as producer:
        assert all_put.wait(30), "the producer never finished"
        kill(producer)


def test_a_killed_producer_loses_the_items_that_it_had_not_sent_yet() -> None:
    channel = mp.Queue()
    kill_right_after_put(channel)
    arrived = got_within(channel, NEVER)
    assert 0 < len(arrived) < MANY
    assert arrived == list(range(len(arrived)))
    if sys.platform != "darwin":  # there is no qsize() there
        assert channel.qsize() == MANY - len(arrived), "qsize no longer counts what never arrived"


def join_queue(channel: Any) -> None:
    channel.join()


def test_a_killed_producer_makes_join_wait_for_ever() -> None:
    channel = mp.JoinableQueue()
    kill_right_after_put(channel)
    for _ in got_within(channel, NEVER):
        channel.task_done()
    with running(join_queue, channel) as joiner:
        joiner.join(NEVER)
        assert joiner.is_alive()


# --- a JoinableQueue


def test_a_consumer_that_dies_before_task_done_makes_join_wait_for_ever() -> None:
    channel, eating = mp.JoinableQueue(), mp.Event()
    put(channel, "half eaten")
    with running(get_one_and_eat_for_ever, channel, eating) as consumer:
        assert eating.wait(30), "the consumer never ate"
        kill(consumer)
    with running(join_queue, channel) as joiner:
        joiner.join(NEVER)
        assert joiner.is_alive()
        channel.task_done()  # the one that is missing: so that was what it waited for
        joiner.join(30)
        assert joiner.exitcode == 0


def test_one_task_done_too_many_is_a_value_error() -> None:
    channel = mp.JoinableQueue()
    put(channel, "one")
    channel.get()
    channel.task_done()
    with pytest.raises(ValueError, match="called too many times"):
        channel.task_done()


# --- put, join, and what a Queue says of itself


def test_an_item_that_cannot_be_pickled_vanishes_after_put_has_returned() -> None:
    program = (
        "import multiprocessing, queue\n"
        "channel = multiprocessing.get_context('fork').Queue()\n"
        "channel.put(lambda: None)\n"
        "print('put returned')\n"
        "channel.put('the next')\n"
        "print(channel.get(timeout=30))\n"
        "try:\n"
        f"    channel.get(timeout={NEVER})\n"
        "except queue.Empty:\n"
        "    print('and nothing else')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["put returned", "the next", "and nothing else"]
    assert "Traceback" in done.stderr
    assert "pickle" in done.stderr


def test_joining_a_child_before_its_queue_is_drained_is_a_deadlock() -> None:
    channel = mp.Queue()
    with running(put_all, channel, ("x" * 1_000_000,)) as child:
        wait_until(lambda: not channel.empty(), "the child to begin to send")
        child.join(NEVER)
        assert child.is_alive()
        assert len(channel.get(timeout=30)) == 1_000_000
        child.join(30)
        assert child.exitcode == 0


class SlowToPickle:
    """An item that its Queue's thread needs a while to send."""

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        time.sleep(NEVER)
        return str, ("here at last",)


def put_slow_and_look(channel: Any, parent: "Connection[Any, Any]") -> None:
    channel.put(SlowToPickle())
    parent.send((channel.full(), channel.empty()))


def test_empty_and_full_are_approximate() -> None:
    channel = mp.Queue(1)
    here, there = mp.Pipe(duplex=False)
    with running(put_slow_and_look, channel, there) as putter:
        assert here.poll(30)
        assert here.recv() == (True, True), "it is full and empty at once"
        putter.join(30)
    assert channel.get(timeout=30) == "here at last"


# --- a lock


def hold_lock(lock: Any, held: Any) -> None:
    with lock:
        held.set()
        time.sleep(3600)


def hold_flock(path: Path, held: Any) -> None:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        held.set()
        time.sleep(3600)


def test_a_lock_whose_holder_is_killed_is_never_released() -> None:
    lock, held = mp.Lock(), mp.Event()
    with running(hold_lock, lock, held) as holder:
        assert held.wait(30), "nobody took the lock"
        kill(holder)
    assert not lock.acquire(timeout=NEVER)


def test_a_flock_whose_holder_is_killed_is_released_at_once(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    held = mp.Event()
    with (tmp_path / "lock").open() as file, running(hold_flock, tmp_path / "lock", held) as holder:
        assert held.wait(30), "nobody took the lock"
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kill(holder)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- a Manager


class WatchedQueue(queue.Queue[str]):
    """A queue that can say how many have come to get: one thread of the server for each client."""

    getters = 0

    def get(self, block: bool = True, timeout: float | None = None) -> str:
        self.getters += 1
        return super().get(block, timeout)

    def came_to_get(self) -> int:
        return self.getters


class Manager(managers.BaseManager):
    """A Manager of one queue."""


def serve(port: int, parent: "Connection[Any, Any]") -> None:
    kept = WatchedQueue()
    Manager.register("queue", callable=lambda: kept)
    server = Manager(("127.0.0.1", port), b"of this test").get_server()
    parent.send(server.address)
    server.serve_forever()


@contextmanager
def manager(port: int = 0) -> Iterator[tuple[BaseProcess, int]]:
    here, there = mp.Pipe(duplex=False)
    with running(serve, port, there) as server:
        assert here.poll(30), "the Manager never listened"
        yield server, here.recv()[1]


def queue_at(port: int) -> Any:
    Manager.register("queue")
    client = Manager(("127.0.0.1", port), b"of this test")
    client.connect()
    return cast(Any, client).queue()


def send_size(port: int, parent: "Connection[Any, Any]") -> None:
    parent.send(queue_at(port).qsize())


def get_from_manager(port: int) -> None:
    queue_at(port).get()


def test_the_manager_pops_the_next_item_for_a_client_that_was_killed_in_get() -> None:
    with manager() as (_, port):
        channel = queue_at(port)
        with running(get_from_manager, port) as client:
            wait_until(lambda: channel.came_to_get() == 1, "the client to come to get")
            kill(client)
        channel.put("for the dead")
        wait_until(lambda: channel.qsize() == 0, "the server to take it out, though nobody is there")
        channel.put("for the living")
        assert channel.get(True, 30) == "for the living"
        assert channel.qsize() == 0


def test_a_manager_that_is_killed_loses_the_backlog() -> None:
    with manager() as (server, port):
        channel = queue_at(port)
        for number in range(5):
            channel.put(str(number))
        assert channel.qsize() == 5
        kill(server)
        with pytest.raises((ConnectionError, EOFError)):
            channel.get_nowait()
    here, there = mp.Pipe(duplex=False)
    # Looked at from a new process: this one's proxies keep to the connection that they had to that address.
    with manager(port), running(send_size, port, there):
        assert here.poll(30), "the new Manager never answered"
        assert here.recv() == 0
