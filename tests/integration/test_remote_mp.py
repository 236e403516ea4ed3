"""remote_mp: maxsize, threads, processes, and the errors for bad input."""

import multiprocessing
import pickle
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from baozi.amqp.connection import broker_url
from baozi.errors import (
    BaoziError,
    BrokerAway,
    BrokerRefused,
    NotPermitted,
    NoVirtualHost,
    TopologyMismatch,
    UsageError,
)
from baozi.settings import settings
from remote_mp import JoinableQueue, Queue, Unreadable
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.waiting import wait_until


def test_many_producers_at_once_can_put_exactly_maxsize_items(
    make_queue: Callable[..., Any], place: Place
) -> None:
    queues = [make_queue(3) for _ in range(8)]
    for q in queues:
        assert q.qsize() == 0  # this connects it

    def put_twelve(q: Any) -> int:
        accepted = 0
        for number in range(12):
            try:
                q.put(number, timeout=0 if number else 0.1)
                accepted += 1
            except queue.Full:
                pass
        return accepted

    with ThreadPoolExecutor(len(queues)) as pool:
        assert sum(pool.map(put_twelve, queues)) == 3
    assert queue_state(place.url, "remote_mp.q.q")[0] == 3
    assert queues[0].full()


def test_the_course_s_program_runs_without_what_windows_and_macos_lack(
    private_place: Place, tmp_path: Path
) -> None:
    tests = Path(__file__).parents[1]
    (tmp_path / "course.py").write_text(COURSE, encoding="utf-8")
    without = {"PYTHONPATH": f"{tests / 'unit/other_systems'}:{tests.parent}"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "course.py"],
        cwd=tmp_path,
        env={**private_place.environment(), **without},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*(f"吃了 第{number}个包子" for number in range(5)), "主进程"]


#: As in the README, with a consumer that is started as on Windows and macOS.
COURSE = """
import multiprocessing
from remote_mp import JoinableQueue


def eat(q):
    while True:
        print("吃了", q.get(), flush=True)
        q.task_done()


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    q = JoinableQueue(3, name="elsewhere")
    multiprocessing.Process(target=eat, args=(q,), daemon=True).start()
    for number in range(5):
        q.put(f"第{number}个包子")
    q.join()
    print("主进程")
    q.close()
"""


def test_maxsize_holds_while_items_are_put_and_got(make_queue_here: Callable[..., Any]) -> None:
    source, sink = make_queue_here(3), make_queue_here(3)
    most = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal most
        watcher = make_queue_here(3)
        while not stop.is_set():
            most = max(most, watcher.qsize())

    watching = threading.Thread(target=watch)
    watching.start()
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(lambda: [source.put(number) for number in range(40)]) for _ in range(3)]
        got = []
        for _ in range(120):
            got.append(sink.get(timeout=30))
            sink.task_done()
        for one in done:
            one.result()
    stop.set()
    watching.join()
    assert sorted(got) == sorted(3 * list(range(40)))
    assert 1 <= most <= 3


def test_a_consumer_of_a_queue_with_a_maxsize_prefetches_nothing(make_queue: Callable[..., Any]) -> None:
    q = make_queue(2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(q.get)
        time.sleep(0.1)  # if it is not waiting yet, the rest must hold all the same
        q.put("got")
        assert waiting.result(30) == "got"
    for item in ("second", "third"):
        q.put(item, timeout=30)
    assert q.full()
    with pytest.raises(queue.Full):
        q.put_nowait("fourth")
    q.task_done()
    with pytest.raises(queue.Full):
        q.put("fourth", timeout=0.3)
    assert [q.get(timeout=30), q.get(timeout=30)] == ["second", "third"]
    with pytest.raises(queue.Empty):
        q.get(timeout=0.2)
    q.put("put after a get that timed out")
    assert q.qsize() == 1


def test_an_item_that_arrived_for_a_get_that_timed_out_is_not_lost(
    make_queue_here: Callable[..., Any],
) -> None:
    impatient, other = make_queue_here(5), make_queue_here(5)
    got: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(lambda: [other.put(number) for number in range(60)])
        deadline = time.monotonic() + 60
        while len(got) < 60 and time.monotonic() < deadline:
            try:
                got.append(impatient.get(timeout=0.001))
                impatient.task_done()
            except queue.Empty:
                pass
        putting.result()
    assert sorted(got) == list(range(60))
    other.join(30)


def test_task_done_finishes_the_threads_oldest_item_or_else_the_processs_oldest(
    make_queue_here: Callable[..., Any],
) -> None:
    q = make_queue_here()
    for item in ("mine", "the thread's", "handed over"):
        q.put(item)
    assert q.get(timeout=30) == "mine"

    def get_and_finish() -> object:
        got = q.get(timeout=30)
        q.task_done()
        return got

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(get_and_finish).result() == "the thread's"
        assert q.get(timeout=30) == "handed over"
        pool.submit(q.task_done).result()  # this thread got none: "mine" is the oldest of the process
    q.close()
    q.join_thread()
    again = make_queue_here()
    assert again.get(timeout=30) == "handed over"
    with pytest.raises(queue.Empty):
        again.get(timeout=0.3)


def test_a_forked_child_has_its_own_connections(make_queue_here: Callable[..., Any]) -> None:
    q = make_queue_here()
    q.put("the parent's")
    fork = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python warns of a fork in a process with threads
        children = [fork.Process(target=put_and_end, args=(q, f"child {number}")) for number in range(2)]
        for child in children:
            child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    q.put("the parent's again")
    items = sorted(q.get(timeout=30) for _ in range(4))
    assert items == ["child 0", "child 1", "the parent's", "the parent's again"]
    for _ in items:
        q.task_done()
    q.join(30)  # the parent still receives done notices


def put_and_end(q: Any, item: str) -> None:
    assert q.get(timeout=30) is not None
    q.put(item)
    # The item that was got is redelivered when this process ends.


def test_an_unpickled_queue_uses_the_broker_of_the_settings(
    private_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAOZI_BROKER_URL", private_place.url)
    settings.cache_clear()
    broker_url.cache_clear()
    try:
        with JoinableQueue[str](2, name="travels") as here:
            here.put("from here")
            sent = pickle.dumps(here)
            assert b"amqp" not in sent
            with pickle.loads(sent) as there:  # noqa: S301  # this test pickled it
                assert there.get(timeout=30) == "from here"
                there.task_done()
            here.join(30)
    finally:
        settings.cache_clear()
        broker_url.cache_clear()
    with pytest.raises(UsageError, match="the password would travel with it"):
        pickle.dumps(JoinableQueue(name="stays", url=private_place.url))


def test_a_queue_that_was_not_used_opens_nothing() -> None:
    before = threading.active_count()
    with JoinableQueue[str](name="unused", url="amqp://nobody:nothing@127.0.0.1:1/") as q:
        assert "nothing" not in repr(q)
    assert threading.active_count() == before


def test_a_message_that_is_not_an_item_becomes_a_dead_letter_with_a_reason_and_the_next_item_is_got(
    make_queue: Callable[..., Any], place: Place
) -> None:
    q, pickled = make_queue(cls=Queue), make_queue(cls=Queue, serializer="pickle")
    pickled.put({"any": {"object"}})
    with Connection(place.url, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer()
        for body in (b"no JSON", b"{}", b"[]"):
            producer.publish(
                body,
                exchange="",
                routing_key="remote_mp.q.q",
                content_type="application/json",
                content_encoding="utf-8",
                headers={"of": "a stranger"},
            )
        producer.publish(["from any client"], exchange="", routing_key="remote_mp.q.q", serializer="json")
    for _ in range(4):
        with pytest.raises(Unreadable):
            q.get(timeout=30)
    assert q.get(timeout=30) == "from any client"
    wait_until(lambda: queue_state(place.url, "remote_mp.dead")[0] == 4, "four dead letters")
    dead = []
    with Connection(place.url) as connection:
        channel: Any = connection.default_channel
        while (message := channel.basic_get("remote_mp.dead", no_ack=True)) is not None:
            dead.append(message)
    reasons = [message.headers["baozi-reason"] for message in dead]
    assert "'application/x-python-serialize'" in reasons[0]
    assert "JSONDecodeError" in reasons[1]
    assert all(reason.endswith("not a list of items.") for reason in reasons[2:])
    assert {message.headers.get("of") for message in dead[1:]} == {"a stranger"}
    assert q.qsize() == 0


def test_with_a_window_put_does_not_wait_and_join_thread_puts_everything(
    make_queue_here: Callable[..., Any],
) -> None:
    q = make_queue_here(cls=Queue, window=5000)
    for number in range(2000):
        q.put(number)
    q.close()
    q.join_thread()
    other = make_queue_here(cls=Queue)
    assert [other.get(timeout=30) for _ in range(2000)] == list(range(2000))


@pytest.mark.parametrize("window", [1, 100])
def test_a_broker_that_is_away_raises_one_sentence_by_the_deadline(
    monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setenv("BAOZI_BROKER_TIMEOUT", "1")
    settings.cache_clear()
    q = JoinableQueue[str](name="q", url="amqp://a:secret@127.0.0.1:1/", window=window)
    plain = Queue[str](name="q", url="amqp://a:secret@127.0.0.1:1/", window=window)

    def put_and_flush() -> None:
        plain.put("x")
        plain.close()
        plain.join_thread()

    try:
        for do in (lambda: q.put("x"), q.get, q.get_nowait, q.qsize, put_and_flush):
            began = time.monotonic()
            with pytest.raises(BrokerAway, match="does not answer") as raised:
                do()
            assert time.monotonic() - began < 5
            assert "secret" not in str(raised.value)
    finally:
        settings.cache_clear()
        for one in (q, plain):
            one.cancel_join_thread()
            one.close()
            one.join_thread()


def test_an_error_that_waiting_does_not_cure_is_raised_at_once(
    make_queue_here: Callable[..., Any], private_place: Place
) -> None:
    make_queue_here(3).put("so that the queue exists")
    node, virtual_host = private_place.node, private_place.virtual_host
    without = node.make_user(f"u-{virtual_host}", virtual_host, "^$", "^$", "^$")
    wrong: list[tuple[dict[str, Any], type[BaoziError]]] = [
        ({"maxsize": 4}, TopologyMismatch),
        ({"url": private_place.url.replace(":", ":x", 2).replace(":x//", "://")}, BrokerRefused),
        ({"url": private_place.url + "-of-nobody"}, NoVirtualHost),
        ({"url": without, "maxsize": 3}, NotPermitted),
    ]
    for changes, error in wrong:
        for cls in (Queue, JoinableQueue):
            q = make_queue_here(**{"maxsize": 3, "cls": cls, **changes})
            for do in (partial(q.put, "x"), partial(q.get, timeout=30)):
                began = time.monotonic()
                with pytest.raises(error) as raised:
                    do()
                assert time.monotonic() - began < 5
                assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": ""}, "The queue's name is empty"),
        ({"name": "a/b"}, "must not contain '/'"),
        ({"name": "x" * 61}, "over 60 characters"),
        ({"maxsize": 100_000_001}, "maxsize is a whole number up to"),
        ({"maxsize": "3"}, "maxsize is a whole number"),
        ({"window": 0}, "window is 1 or more"),
        ({"prefetch": 65_536}, "prefetch is a whole number up to 65535"),
        ({"serializer": "yaml"}, "There is no serializer 'yaml'; there are json, pickle"),
        ({"acknowledge": "never"}, "acknowledge is 'get' or 'next'"),
        ({"url": "http://a:secret@host/"}, "A queue's url is not a broker URL: its scheme is not"),
    ],
)
def test_a_bad_argument_raises_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        JoinableQueue(**{"name": "q", **options})


def test_a_name_of_60_characters_outside_ascii_works(make_queue_here: Callable[..., Any]) -> None:
    q = make_queue_here(3, name="🥟" * 60)
    q.put("小明")
    assert q.get(timeout=30) == "小明"
    q.task_done()
    q.join(30)
