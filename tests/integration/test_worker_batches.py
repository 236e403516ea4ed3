"""The worker's batches: eaten together, and each message has all that Celery does for a single one."""

import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from celery import Celery
from kombu import Connection

from baozi.journal import Event
from baozi.model import Baozi
from baozi.process_group import StartedProcess
from baozi.settings import Settings
from baozi.topology import Topology
from tests.integration.place import Place, kill, pool_children
from tests.waiting import wait_until

TRAY = 10


def baozi(number: int) -> Baozi:
    return Baozi(run="r", producer="egon", number=number, made_at=time.time())


def put(place: Place, numbers: Sequence[int], delivery_limit: int = 20, **properties: Any) -> None:
    """Put baozi into the queue, which is there before any worker: so that the first finds trays of them."""
    with Connection(place.url, connect_timeout=5) as connection:
        Topology.of(Settings(delivery_limit=delivery_limit)).declare(connection)
    with place.producer() as producer:
        for number in numbers:
            place.send_eat(producer, baozi(number).model_dump(), **properties)


def eater(place: Place, pool: str = "prefork", **settings: object) -> StartedProcess:
    """Start 小明, whose journal tells what is in hand."""
    chosen: dict[str, Any] = {"tray": TRAY, "journal": place.home, **settings}
    return place.worker("小明", pool, **chosen)


def began_more_than(place: Place, these: set[int]) -> bool:
    """Whether any was started that is not one of ``these``."""
    return not set(place.noted(Event.STARTED)) <= these


def deliveries(place: Place) -> int:
    sums = place.sums("r")
    return sums.total.eaten + sums.total.duplicated if sums else 0


def trays(place: Place) -> Counter[float]:
    """How many baozi were committed together, by when: those of one tray share their time."""
    with closing(sqlite3.connect(place.home / "ledger.sqlite3")) as ledger:
        return Counter(at for (at,) in ledger.execute("SELECT eaten_at FROM eaten"))


def eaten(place: Place, count: int) -> None:
    wait_until(lambda: place.eaten("r") == count, f"{count} baozi to be eaten", timeout=60)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_waiting_messages_are_eaten_together_and_once(private_place: Place, pool: str) -> None:
    private_place.produce("r", "egon", 200)
    worker = eater(private_place, pool)
    eaten(private_place, 200)
    assert deliveries(private_place) == 200
    assert 1 < max(trays(private_place).values()) <= TRAY
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=30) == 0
    assert private_place.waiting() == 0


def test_messages_of_the_producer_are_eaten_together(private_place: Place) -> None:
    private_place.produce("r", "egon", 300)
    eater(private_place, eat_time_limit=1000)
    eaten(private_place, 300)
    assert max(trays(private_place).values()) == TRAY


def test_a_message_with_a_shorter_time_limit_than_a_batch_is_executed_alone(private_place: Place) -> None:
    with private_place.producer() as producer:
        put(private_place, [])
        for number, limits in enumerate(([None, 5], [5, None], [9e9, 9e9], [None, None])):
            private_place.send_eat(producer, baozi(number).model_dump(), more_headers={"timelimit": limits})
    eater(private_place)
    eaten(private_place, 4)
    assert sorted(trays(private_place).values()) == [1, 1, 2]


def test_a_single_message_is_executed_at_once(private_place: Place) -> None:
    eater(private_place)
    for number in range(3):
        put(private_place, [number])
        eaten(private_place, number + 1)
    assert set(trays(private_place).values()) == {1}


def test_the_batch_of_a_killed_pool_process_is_redelivered_and_eaten_one_by_one(place: Place) -> None:
    put(place, range(15))
    worker = eater(place, eat_seconds=0.3)
    wait_until(lambda: len(place.started_and_not_eaten()) > 0, "a batch to be started")
    victims = place.started_and_not_eaten()
    for child in pool_children(worker):
        kill(child)
    eaten(place, 15)
    assert deliveries(place) <= 15 + TRAY
    again = {number for number, times in place.noted(Event.STARTED).items() if times > 1}
    assert victims <= again
    assert sum(size == 1 for size in trays(place).values()) >= len(victims)
    assert place.waiting("baozi.dead") == 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_the_batches_of_a_killed_worker_are_redelivered(private_place: Place, pool: str) -> None:
    put(private_place, range(40))
    first = eater(private_place, pool, eat_seconds=0.05)
    wait_until(lambda: len(private_place.started_and_not_eaten()) > 0, "a batch to be started")
    kill(first.process)
    wait_until(lambda: private_place.consumers() == 0, "the broker to notice")
    private_place.worker("小红", pool, tray=TRAY)
    eaten(private_place, 40)
    assert deliveries(private_place) <= 40 + TRAY


def test_a_worker_that_loses_its_connection_continues_with_its_batches(place: Place) -> None:
    put(place, range(100))
    worker = eater(place, eat_seconds=0.02)
    wait_until(lambda: len(place.started_and_not_eaten()) > 0, "a batch to be started")
    mine = wait_until(
        lambda: [it["name"] for it in place.node.api("GET", f"vhosts/{place.virtual_host}/connections")],
        "the management pages to know the connections",
    )
    for name in mine:
        with suppress(HTTPError):  # it has ended by itself
            place.node.api("DELETE", f"connections/{quote(name)}")
    eaten(place, 100)
    assert worker.process.is_running()
    wait_until(lambda: place.waiting() == 0, "nothing to be left in the queue")
    assert place.waiting("baozi.dead") == 0


def test_a_message_that_always_kills_its_process_does_not_harm_the_rest_of_its_batch(place: Place) -> None:
    settings: dict[str, Any] = {"eat_seconds": 2, "delivery_limit": 2}
    with Connection(place.url, connect_timeout=5) as connection:
        Topology.of(Settings(delivery_limit=2)).declare(connection)
    with place.producer() as producer:
        for number in range(3):
            place.send_eat(producer, baozi(number).model_dump())
    worker = eater(place, **settings)
    killed = 0

    def dead_or_killed_again() -> bool:
        nonlocal killed
        if place.noted(Event.STARTED)[1] > killed:
            for child in pool_children(worker):
                kill(child)
            killed = place.noted(Event.STARTED)[1]
        return place.waiting("baozi.dead") == 1

    wait_until(dead_or_killed_again, "the poison to be in the dead letters", timeout=60)
    assert killed == 3
    eaten(place, 2)
    assert set(place.noted(Event.EATEN)) == {0, 2}


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_stopped_worker_finishes_and_acknowledges_its_batches(private_place: Place, pool: str) -> None:
    place = private_place
    put(place, range(100))
    worker = eater(place, pool, eat_seconds=0.05)
    wait_until(lambda: len(place.started_and_not_eaten()) > 0, "a batch to be started")
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=30) == 0
    # It ends with its trays, not with its time.
    assert time.monotonic() - began < Settings().soft_shutdown_timeout / 2
    assert 1 <= place.eaten("r") < 100
    assert not place.started_and_not_eaten()
    wait_until(lambda: place.eaten("r") + place.waiting() == 100, "the rest to be in the queue")
    eater(place)
    wait_until(lambda: place.eaten("r") == 100, "all to be eaten")
    assert deliveries(place) == 100


def test_rolling_restarts_do_not_use_up_the_delivery_limit_of_prefetched_messages(
    private_place: Place,
) -> None:
    # On the older broker, where each message that is given back counts.
    limit = 2
    total = 400
    put(private_place, range(total), limit)
    for _ in range(limit + 2):
        begun = set(private_place.noted(Event.STARTED))
        worker = eater(private_place, eat_seconds=0.05, delivery_limit=limit)
        wait_until(partial(began_more_than, private_place, begun), "a batch to be started")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=30) == 0
        wait_until(lambda: private_place.consumers() == 0, "the broker to notice")
    assert 0 < private_place.eaten("r") < total
    eater(private_place, delivery_limit=limit)
    eaten(private_place, total)
    assert private_place.waiting("baozi.dead") == 0


def test_a_stopped_worker_returns_its_batches_at_its_deadline(place: Place) -> None:
    put(place, range(30))
    worker = eater(place, eat_seconds=5, soft_shutdown_timeout=2)
    wait_until(lambda: len(place.started_and_not_eaten()) > 0, "a batch to be started")
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=30) == 0
    assert time.monotonic() - began < 20
    wait_until(lambda: place.waiting() == 30, "all to be in the queue again")
    assert place.eaten("r") == 0


@contextmanager
def another_client(place: Place) -> Iterator[Celery]:
    with Celery("another", broker=place.url, set_as_current=False) as client:
        client.conf.update(control_queue_exclusive=False, control_queue_durable=True)
        yield client


def test_one_that_is_revoked_is_not_eaten_and_one_with_an_eta_waits(private_place: Place) -> None:
    eater(private_place)
    with another_client(private_place) as client:
        heard = client.control.revoke(baozi(3).task_id, reply=True, timeout=20, limit=1)
        assert heard
    later = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    with private_place.producer() as producer:
        private_place.send_eat(producer, baozi(0).model_dump(), more_headers={"eta": later})
        for number in range(1, 6):
            private_place.send_eat(producer, baozi(number).model_dump())
    eaten(private_place, 5)
    order = [number for number, _ in sorted(eaten_at(private_place).items(), key=lambda it: it[1])]
    assert set(order) == {0, 1, 2, 4, 5}
    assert order[-1] == 0
    wait_until(lambda: private_place.waiting() == 0, "the revoked one to be gone")


def test_a_remote_command_gets_the_brokers_answer_between_messages(place: Place) -> None:
    total = 3_000
    put(place, range(total))
    worker = eater(place, tray=50)
    with another_client(place) as client:
        rounds = 0
        while place.eaten("r") < total * 0.8 and rounds < 20:
            assert client.control.cancel_consumer("baozi", reply=True, timeout=20, limit=1)
            assert client.control.add_consumer("baozi", reply=True, timeout=20, limit=1)
            rounds += 1
    assert rounds
    wait_until(lambda: place.eaten("r") == total, "all to be eaten", 60)
    assert worker.process.is_running()
    assert "Traceback" not in worker.log.read_text()


@contextmanager
def watching(place: Place) -> Iterator[tuple[Celery, Counter[tuple[str, str]], Callable[[], object]]]:
    """Yield a client, the events that it has seen, by kind and task, and what has it look for more."""
    seen: Counter[tuple[str, str]] = Counter()
    with another_client(place) as client, client.connection_for_read() as connection:
        receiver = client.events.Receiver(
            connection, handlers={"*": lambda event: seen.update([(event["type"], event.get("uuid", ""))])}
        )
        with receiver.consumer_context() as (its_own, _, _):

            def look() -> None:
                with suppress(TimeoutError):
                    its_own.drain_events(timeout=0.2)

            yield client, seen, look


def wait_until_seen(seen: Counter[tuple[str, str]], numbers: range, look: Callable[[], object]) -> None:
    def all_seen() -> bool:
        look()
        return all(seen["task-succeeded", baozi(number).task_id] for number in numbers)

    wait_until(all_seen, "each to be seen as succeeded")


def test_events_report_each_message_received_started_and_succeeded(private_place: Place) -> None:
    with watching(private_place) as (_, seen, look):
        put(private_place, range(40))
        eater(private_place)
        wait_until_seen(seen, range(40), look)
    for kind in ("task-received", "task-started", "task-succeeded"):
        assert [seen[kind, baozi(number).task_id] for number in range(40)] == [1] * 40


def test_without_task_events_none_are_sent_until_a_client_asks(private_place: Place) -> None:
    with watching(private_place) as (client, seen, look):
        put(private_place, range(20))
        eater(private_place, task_events=False)
        eaten(private_place, 20)
        assert client.control.enable_events(reply=True, timeout=20, limit=1)
        put(private_place, range(20, 40))
        wait_until_seen(seen, range(20, 40), look)
    assert not any(seen[kind, baozi(0).task_id] for kind in ("task-received", "task-succeeded"))


def eaten_at(place: Place) -> dict[int, float]:
    with closing(sqlite3.connect(place.home / "ledger.sqlite3")) as ledger:
        return dict(ledger.execute("SELECT number, eaten_at FROM eaten"))


LISTENER = """
import os
from celery import signals

def heard(what):
    def receiver(**_):
        with open(os.environ["HEARD"], "a") as out:
            out.write(what + "\\n")
    return receiver

for name in ("task_received", "task_prerun", "task_postrun", "task_success"):
    getattr(signals, name).connect(heard(name), weak=False)
"""


def test_celerys_signals_are_sent_for_each_message_of_a_batch(private_place: Place) -> None:
    put(private_place, range(20))
    (private_place.home / "listener.py").write_text(LISTENER)
    heard = private_place.home / "heard"
    more = {"PYTHONPATH": str(private_place.home), "HEARD": str(heard), "BAOZI_TRAY": str(TRAY)}
    command = ["celery", "--quiet", "-A", "tasks", "worker", "-n", "小明@%h", "-c", "1", "-I", "listener"]
    private_place.process_group.start("worker", "小明", command, {**private_place.environment(), **more})
    eaten(private_place, 20)

    def told() -> Counter[str]:
        return Counter(Path(heard).read_text().split())

    each = {"task_received": 20, "task_prerun": 20, "task_postrun": 20, "task_success": 20}
    wait_until(lambda: told() == each, "each signal to be heard twenty times")
    assert max(trays(private_place).values()) == TRAY
