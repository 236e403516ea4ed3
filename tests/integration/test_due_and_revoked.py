"""What is not due yet waits at the broker; what came too late or was revoked is dead with that reason."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain

from baozi.dead_letters import queue as dead_letters
from baozi.model import Baozi
from tests.integration.place import Place
from tests.waiting import wait_until

EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def baozi(number: int, run: str = "r") -> Baozi:
    return Baozi(run=run, producer="egon", number=number, made_at=1.0)


def at(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat()


def send(place: Place, numbers: range, run: str = "r", **headers: object) -> None:
    with place.producer() as producer:
        for number in numbers:
            place.send_eat(producer, baozi(number, run).model_dump(), more_headers=headers)


@contextmanager
def another_client(place: Place) -> Iterator[Celery]:
    with Celery("another", broker=place.url, set_as_current=False) as client:
        client.conf.update(control_queue_exclusive=False, control_queue_durable=True)
        yield client


def reasons(place: Place, monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    monkeypatch.setattr("baozi.amqp.connection.broker_url", lambda: place.url)
    return {one.number: letter.reason for letter in dead_letters.browse() for one in letter.baozi}


@pytest.mark.parametrize("tray", [1, 100])
def test_a_message_that_is_not_due_waits_at_the_broker_and_blocks_no_other(
    place: Place, tray: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = place.worker("小明", tray=tray)
    send(place, range(20), "an hour later", eta=at(hours=1))
    send(place, range(20), "years later", eta=at(days=3000))
    due = time.time() + 4
    send(place, range(3), "soon", eta=datetime.fromtimestamp(due, UTC).isoformat())
    send(place, range(100, 105), "too late", eta="2099-01-01T00:00:00+00:00")
    send(place, range(10), "now")
    wait_until(lambda: place.eaten("now") == 10, "the plain ones to be eaten")
    wait_until(lambda: place.eaten("soon") == 3, "those whose time has come to be eaten")
    assert min(eaten_at(place, "soon")) >= due
    wait_until(lambda: place.waiting("baozi.dead") == 5, "those that are to wait too long to be dead")
    dead = reasons(place, monkeypatch)
    assert set(dead) == set(range(100, 105))
    assert all("ETA" in reason for reason in dead.values())
    # All others are at the broker: the worker has none in hand.
    wait_until(lambda: delayed(place) == 40, "the broker to count what is delayed", 60)
    assert worker.process.is_running()


def eaten_at(place: Place, run: str) -> list[float]:
    with closing(sqlite3.connect(place.home / "ledger.sqlite3")) as ledger:
        return [at for (at,) in ledger.execute("SELECT eaten_at FROM eaten WHERE run = ?", (run,))]


def delayed(place: Place) -> int:
    """How many messages wait in the queues of delayed delivery; the broker counts every few seconds."""
    queues = place.node.api("GET", f"queues/{place.virtual_host}")
    return sum(it.get("messages", 0) for it in queues if it["name"].startswith("celery_delayed_"))


@pytest.mark.parametrize("tray", [1, 100])
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_message_that_expires_while_it_waits_for_a_pool_process_is_dead_lettered(
    private_place: Place, pool: str, tray: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = private_place
    place.worker("小明", pool, eat_seconds=2, tray=tray)
    send(place, range(2))
    send(place, range(2, 5), expires=at(seconds=1))
    send(place, range(5, 6), expires=at(hours=1))
    send(place, range(6, 8), expires=at(seconds=-1))
    wait_until(lambda: place.eaten("r") == 3, "those that have not expired to be eaten")
    wait_until(lambda: place.waiting("baozi.dead") == 5, "the others to be dead")
    assert reasons(place, monkeypatch) == dict.fromkeys((2, 3, 4, 6, 7), "expired")
    wait_until(lambda: place.waiting() == 0, "nothing to be left")
    audited = json.loads(place.run("audit", "r", "--json").stdout)["total"]
    assert (audited["eaten"], audited["dead"]) == (3, 5)


@pytest.mark.parametrize("tray", [1, 100])
def test_a_revoked_message_is_dead_lettered_whether_it_has_begun_or_not(
    place: Place, tray: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = place.worker("小明", eat_seconds=5, tray=tray, journal=place.home)
    with another_client(place) as client:
        # Alone, since a tray's baozi cannot be stopped one by one.
        send(place, range(1), retries=1)
        journal = place.home / "consumer" / "小明.journal"
        wait_until(lambda: journal.exists() and "r/egon/0" in journal.read_text(), "the first to be begun")
        later = [baozi(number).task_id for number in (1, 2)]
        assert client.control.revoke(later, reply=True, timeout=20, limit=1)
        assert client.control.revoke(baozi(0).task_id, terminate=True, reply=True, timeout=20, limit=1)
        send(place, range(1, 4))
    wait_until(lambda: place.waiting("baozi.dead") == 3, "those that were revoked to be dead")
    assert reasons(place, monkeypatch) == dict.fromkeys((0, 1, 2), "revoked")
    wait_until(lambda: place.eaten("r") == 1, "the one that was not to be eaten")
    wait_until(lambda: place.waiting() == 0, "nothing to be left")
    assert worker.process.is_running()


def test_the_follower_of_a_baozi_is_executed(private_place: Place) -> None:
    place = private_place
    place.worker("小明")
    with another_client(place) as client:
        eat = [
            client.signature("tasks.eat", [baozi(number).model_dump()], immutable=True) for number in range(5)
        ]
        way: dict[str, Any] = {"exchange": "baozi", "routing_key": "baozi", "declare": []}
        chain(*eat[:3], app=client).apply_async(**way)
        eat[3].apply_async(link=eat[4], **way)
        wait_until(lambda: place.eaten("r") == 5, "each to be eaten")
    assert place.waiting("baozi.dead") == 0


def test_a_follower_that_cannot_be_sent_leaves_what_was_eaten_eaten(private_place: Place) -> None:
    place = private_place
    worker = place.worker("小明")
    broken: dict[str, Any] = {
        "task": "tasks.eat",
        "args": [],
        "kwargs": {},
        "options": {"queue": "nowhere"},
        "subtask_type": None,
    }
    with place.producer() as producer:
        for number, name in enumerate(("callbacks", "chain")):
            body = [[baozi(number).model_dump()], {}, {**EMBED, name: [broken]}]
            headers = {"task": "tasks.eat", "id": baozi(number).task_id, "lang": "py"}
            producer.publish(body, exchange="baozi", routing_key="baozi", headers=headers)
    wait_until(lambda: place.eaten("r") == 2, "both to be eaten")
    wait_until(lambda: worker.log.read_text().count("could not be sent") == 2, "the worker to say so")
    send(place, range(2, 3))
    wait_until(lambda: place.eaten("r") == 3, "the worker to go on")
    assert (place.waiting(), place.waiting("baozi.dead")) == (0, 0)


def test_dead_lettering_is_repeated_if_the_pool_process_is_killed(private_place: Place) -> None:
    """The message is not acknowledged before its copy is confirmed."""
    place = private_place
    worker = place.worker("小明", tray=1)
    for _ in range(5):
        with place.producer() as producer:
            producer.publish("{", exchange="baozi", routing_key="baozi", content_type="application/json")
        for child in worker.process.children():
            child.kill()
    wait_until(lambda: place.waiting("baozi.dead") >= 5, "all to be dead")
    wait_until(lambda: place.waiting() == 0, "nothing to be left")
    began = time.monotonic()
    send(place, range(1))
    wait_until(lambda: place.eaten("r") == 1, "the worker to go on")
    assert time.monotonic() - began < 30
