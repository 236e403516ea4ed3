"""The worker: what is delivered twice is eaten once, and what is no baozi goes to the dead letters."""

import json
import signal
import sqlite3
import time
from functools import partial
from typing import Any

import pytest

from baozi.dead_letters import queue as dead_letters
from baozi.dead_letters.letter import DeadMessage
from baozi.journal import Event
from baozi.model import Baozi
from tests.integration.place import Place, kill, pool_children
from tests.waiting import wait_until


def baozi(number: int, run: str = "r", producer: str = "egon") -> dict[str, Any]:
    return Baozi(run=run, producer=producer, number=number, made_at=time.time()).model_dump()


def dead(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[DeadMessage]:
    monkeypatch.setattr("baozi.amqp.connection.broker_url", lambda: place.url)
    return list(dead_letters.browse())


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_baozi_that_was_put_twice_is_eaten_once(private_place: Place, pool: str) -> None:
    private_place.worker("小明", pool)
    item = baozi(0)
    with private_place.producer() as producer:
        for _ in range(3):
            private_place.send_eat(producer, item)
    wait_until(lambda: deliveries(private_place) == 3, "three deliveries in the ledger")
    assert private_place.eaten("r") == 1


def deliveries(place: Place) -> int:
    sums = place.sums("r")
    return sums.total.eaten + sums.total.duplicated if sums else 0


def test_the_baozi_of_a_killed_pool_process_is_redelivered(place: Place) -> None:
    worker = place.worker("小明", eat_seconds=1, journal=place.home)
    with place.producer() as producer:
        place.send_eat(producer, baozi(0))
    wait_until(place.started_and_not_eaten, "the child to have started the baozi")
    for child in pool_children(worker):
        kill(child)
    wait_until(lambda: place.eaten("r") == 1, "the baozi to be eaten after the kill")
    assert place.waiting("baozi.dead") == 0


def test_the_baozi_of_a_killed_worker_are_redelivered(place: Place) -> None:
    first = place.worker("小明", eat_seconds=30, journal=place.home)
    with place.producer() as producer:
        for number in range(3):
            place.send_eat(producer, baozi(number))
    wait_until(place.started_and_not_eaten, "the worker to have started a baozi")
    kill(first.process)
    wait_until(lambda: place.consumers() == 0, "the broker to notice")
    place.worker("小红")
    wait_until(lambda: place.eaten("r") == 3, "all to be eaten by the other worker")


def test_a_stopped_worker_finishes_started_messages_and_returns_the_others_to_the_queue(place: Place) -> None:
    worker = place.worker("小明", eat_seconds=2, soft_shutdown_timeout=4, journal=place.home)
    with place.producer() as producer:
        for number in range(4):
            place.send_eat(producer, baozi(number))
    wait_until(place.started_and_not_eaten, "the worker to have started a baozi")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=30) == 0
    assert 1 <= place.eaten("r") < 4
    assert place.eaten("r") + place.waiting() == 4


def eaten_more_than(place: Place, count: int) -> bool:
    return place.eaten("r") > count


def test_a_worker_that_is_stopped_at_any_moment_ends_soon_and_nothing_of_its_comes_again(
    private_place: Place,
) -> None:
    place = private_place
    place.produce("r", "egon", 3_000)
    for stop in range(4):
        before = place.eaten("r")
        worker = place.worker("小明", processes=2, tray=1)
        wait_until(partial(eaten_more_than, place, before + 10 * stop), "the worker to be at work")
        began = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=30) == 0
        assert time.monotonic() - began < 10
        wait_until(lambda: place.consumers() == 0, "the broker to notice")
    sums = place.sums("r")
    assert sums is not None
    assert sums.total.duplicated == 0
    assert sums.total.eaten + place.waiting() - 1 == 3_000  # the last is the order


EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
EAT = {"lang": "py", "task": "tasks.eat", "id": "some-id", "argsrepr": "", "kwargsrepr": ""}
GOOD = {"run": "r", "producer": "egon", "number": 7, "made_at": 1.0}

NO_BAOZI: dict[str, tuple[Any, dict[str, Any], str]] = {
    "not JSON": (b"\xff{", {"headers": EAT, "content_type": "application/json"}, "cannot be decoded"),
    "not text": (b"\x00\x01", {"content_type": "application/octet-stream"}, "untrusted content"),
    "a pickle": (
        b"x",
        {"headers": EAT, "content_type": "application/x-python-serialize"},
        "untrusted content",
    ),
    "JSON of no Celery client": ({"hello": "baozi"}, {}, "not a Celery task"),
    "a number": (5, {}, "not a Celery task"),
    "a number under Celery's header": (5, {"headers": EAT}, "not a Celery task"),
    "an empty list under Celery's header": ([], {"headers": EAT}, "not a Celery task"),
    "no id": ([[GOOD], {}, EMBED], {"headers": {"task": "tasks.eat"}}, "not a Celery task"),
    "an odd eta": ([[GOOD], {}, EMBED], {"headers": {**EAT, "eta": "soon"}}, "invalid ETA"),
    "another task": ([[GOOD], {}, EMBED], {"headers": {**EAT, "task": "tasks.drink"}}, "tasks.drink"),
    "no argument": ([[], {}, EMBED], {"headers": EAT}, "tasks.eat: item is missing"),
    "two arguments": ([[GOOD, GOOD], {}, EMBED], {"headers": EAT}, "is an argument too many"),
    "a missing field": ([[{**GOOD, "number": None}], {}, EMBED], {"headers": EAT}, "number"),
    "an extra field": (
        [[{**GOOD, "filling": "pork"}], {}, EMBED],
        {"headers": EAT},
        "filling is a field too many",
    ),
    "a negative number": (
        [[{**GOOD, "number": -1}], {}, EMBED],
        {"headers": EAT},
        "number should be greater",
    ),
    "a number that is a string": (
        [[{**GOOD, "number": "7"}], {}, EMBED],
        {"headers": EAT},
        "number should be",
    ),
    "an order that shrinks": (
        [[{"run": "r", "producer": "egon", "accepted": 2, "attempted": 1, "closed_at": 1.0}], {}, EMBED],
        {"headers": {**EAT, "task": "tasks.close_order"}},
        "attempted is less than accepted",
    ),
    "10 MB": ([["x" * 10_000_000], {}, EMBED], {"headers": EAT}, "should be a valid dictionary"),
}


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_an_invalid_message_is_dead_lettered_unchanged_with_its_reason(
    place: Place, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.worker("小明", pool)
    sent: dict[str, bytes] = {}
    with place.producer() as producer:
        for name, (body, properties, _) in NO_BAOZI.items():
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent[name] = raw
            options = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
            headers = {**options.pop("headers", {}), "sent-as": name}
            producer.publish(raw, exchange="baozi", routing_key="baozi", headers=headers, **options)
            place.send_eat(producer, baozi(len(sent)))
    wait_until(lambda: place.eaten("r") == len(NO_BAOZI), "all the good ones to be eaten")
    wait_until(lambda: place.waiting("baozi.dead") == len(NO_BAOZI), "all invalid ones to be dead-lettered")
    letters = {letter.headers["sent-as"]: letter for letter in dead(place, monkeypatch)}
    for name, (_, _, reason) in NO_BAOZI.items():
        assert reason in letters[name].reason, name
        assert letters[name].body == sent[name], name
    wait_until(
        lambda: place.waiting("baozi.dead") == len(NO_BAOZI), "all letters to be given back after a look"
    )


def test_a_baozi_that_never_finishes_is_dead_lettered_while_others_are_eaten(
    private_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    private_place.worker("小明", eat_seconds=60, eat_time_limit=1)
    with private_place.producer() as producer:
        private_place.send_eat(producer, baozi(0))
    wait_until(lambda: private_place.waiting("baozi.dead") == 1, "the slow baozi to be dead-lettered")
    (letter,) = dead(private_place, monkeypatch)
    assert "SoftTimeLimitExceeded" in letter.reason
    assert [baozi.number for baozi in letter.baozi] == [0]


def test_a_baozi_that_always_kills_its_pool_process_is_dead_lettered(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = place.worker("小明", eat_seconds=60, delivery_limit=2, journal=place.home)
    with place.producer() as producer:
        place.send_eat(producer, baozi(0))
    killed = 0

    def dead_or_killed_again() -> bool:
        nonlocal killed
        if place.waiting("baozi.dead"):
            return True
        if place.noted(Event.STARTED)[0] > killed:
            for child in pool_children(worker):
                kill(child)
            killed += 1
        return False

    wait_until(dead_or_killed_again, "the poison to be in the dead letters")
    (letter,) = dead(place, monkeypatch)
    assert letter.reason == "delivery_limit"
    assert killed == 3


def test_a_ledger_that_is_locked_is_waited_for_and_nothing_is_acknowledged_meanwhile(
    private_place: Place,
) -> None:
    worker = private_place.worker("小明")
    lock = sqlite3.connect(private_place.home / "ledger.sqlite3", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    with private_place.producer() as producer:
        private_place.send_eat(producer, baozi(0))
    wait_until(lambda: "Trying again" in worker.log.read_text(), "the worker to say that it waits")
    lock.execute("ROLLBACK")
    lock.close()
    wait_until(lambda: private_place.eaten("r") == 1, "the baozi to be eaten once the ledger is there")
    assert private_place.waiting("baozi.dead") == 0


@pytest.mark.parametrize("tray", [1, 4])
def test_a_ledger_that_is_slow_slows_eating_and_nothing_is_acknowledged_without_its_row(
    private_place: Place, tray: int
) -> None:
    place = private_place
    place.produce("r", "egon", 12)
    slow = place.worker("小明", changes=("slow_ledger",), tray=tray)
    wait_until(lambda: place.eaten("r") > 2, "some to be eaten, slowly")
    kill(slow.process)  # in the midst of a statement, most likely
    wait_until(lambda: place.consumers() == 0, "the broker to notice")
    assert place.eaten("r") < 12
    place.worker("小红")
    wait_until(lambda: (sums := place.sums("r")) and sums.proven, "all to be eaten")


def test_a_client_of_celerys_own_can_send_a_baozi(private_place: Place) -> None:
    from celery import Celery  # noqa: PLC0415  # another app than ours, as a stranger would make it

    private_place.worker("小明")
    stranger = Celery("stranger", broker=private_place.url, set_as_current=False)
    stranger.send_task("tasks.eat", args=[baozi(0)], exchange="baozi", routing_key="baozi", declare=[])
    wait_until(lambda: private_place.eaten("r") == 1, "the stranger's baozi to be eaten")
    stranger.close()
