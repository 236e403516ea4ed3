"""The settings that carry each promise: with all of them it holds, and without one it is seen to break.

Each scenario runs whole, and once with each setting taken away in the processes that it concerns.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from baozi.audit import Audit
from baozi.journal import Event, OrderEntry, read_on
from baozi.model import ORDER_HEADER
from tests.integration.mutated import BAD
from tests.integration.place import Place, kill, pool_children
from tests.waiting import wait_until

#: What the audit shows of the run ``r``.
SOUND, LOST, EATEN_TWICE = "sound", "lost", "eaten twice"
#: What the broker shows of a poison.
DEAD, FOR_EVER = "dead after the limit", "delivered for ever"


def produce(
    place: Place, *changes: str, count: int, more: tuple[str, ...] = (), **settings: object
) -> "subprocess.Popen[str]":
    order = ["produce", "--run", "r", "--name", "egon", "--count", str(count), "--json", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.mutated", *changes, "--", "baozi", *order],
        env={**os.environ, **place.environment(**settings)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def accepted(producer: "subprocess.Popen[str]") -> int:
    out, complaint = producer.communicate(timeout=60)
    assert out, complaint
    return int(json.loads(out)["accepted"])


def verdict(place: Place) -> str:
    """What the audit shows when all is said and done: one worker ate, so the order came last."""

    def ended() -> Audit | None:
        sums = place.sums("r")
        return sums if sums and not sums.open_orders and place.waiting() == 0 else None

    sums = wait_until(ended, "the order to be closed, and the queue to be empty")
    assert sums is not None
    total = sums.total
    assert total.accepted is not None
    if total.eaten > total.accepted:
        return EATEN_TWICE
    return LOST if total.lost else SOUND


def a_pool_child_is_killed(place: Place, *changes: str) -> str:
    worker = place.worker("小明", changes=changes, eat_seconds=1, journal=place.home)
    producer = produce(place, count=2)
    wait_until(place.started_and_not_eaten, "the first to be started")
    for child in pool_children(worker):
        kill(child)
    accepted(producer)
    return verdict(place)


def a_queue_is_full(place: Place, *changes: str) -> str:
    """Three producers' time is one worker's: they wait for room."""
    count = 200  # a burst of some thirty would all get in: the bound is soft
    place.worker("小明", changes=changes, capacity=3, eat_seconds=0.02)
    producer = produce(place, *changes, count=count, capacity=3)
    assert accepted(producer) == count
    # The message that closes the order may have been lost as well: once more, for the audit. A worker may
    # requeue what it prefetched, and so fill the queue again, until it has acknowledged all.
    wait_until(place.all_acknowledged, "all to be acknowledged")
    assert accepted(produce(place, *changes, count=count, more=("--resume",), capacity=3)) == count
    return verdict(place)


def one_is_put_twice(place: Place, *changes: str) -> str:
    """By the same order: under another one, or none, its number would be refused."""
    place.worker("小明", changes=changes)
    assert accepted(produce(place, count=1)) == 1
    told = read_on(place.home / "runs" / "r" / "egon.journal", start=0)
    (order,) = {entry.order for entry, _ in told if isinstance(entry, OrderEntry)}
    with place.producer() as producer:
        item = {"run": "r", "producer": "egon", "number": 0, "made_at": 1.0}
        place.send_eat(producer, item, more_headers={ORDER_HEADER: order})

    def both_were_taken() -> bool:
        sums = place.sums("r")
        return sums is not None and sums.total.eaten + sums.total.duplicated == 2

    wait_until(both_were_taken, "both to be taken")
    return verdict(place)


def a_binding_is_taken_away(place: Place, *changes: str) -> str:
    place.worker("小明")
    producer = produce(place, *changes, count=40, more=("--interval", "0.05"))
    wait_until(lambda: place.eaten("r") > 2, "the producer to be at work")
    bindings = f"bindings/{place.virtual_host}/e/baozi/q/baozi"
    for binding in place.node.api("GET", bindings):
        place.node.api("DELETE", f"{bindings}/{quote(binding['properties_key'], safe='')}")
    assert (accepted(producer) == 40) is bool(changes), "whole, it stops"
    place.produce("r", "egon", 40, "--resume")
    return verdict(place)


def one_is_a_poison(place: Place, *changes: str) -> str:
    limit = 2
    limited: dict[str, Any] = {"delivery_limit": limit, "journal": place.home}
    place.worker("小明", changes=("poison_kills", *changes), **limited)
    assert accepted(produce(place, *changes, count=4, **limited)) == 4
    over = limit + 3

    def started() -> int:
        return place.noted(Event.STARTED)[BAD]

    wait_until(lambda: place.waiting("baozi.dead") or started() > over, "the poison's end", 60)
    return FOR_EVER if started() > over else DEAD if started() == limit + 1 else LOST


def the_broker_restarts(place: Place, *changes: str) -> str:
    assert accepted(produce(place, *changes, count=5)) == 5
    place.node.control("stop_app")
    place.node.control("start_app")
    place.worker("小明", changes=changes)
    # The message that closes the order may have been lost as well: once more, for the audit.
    assert accepted(produce(place, *changes, count=5, more=("--resume",))) == 5
    return verdict(place)


#: What happens, and what the audit shows when the settings are whole.
SCENARIOS: dict[Callable[..., str], str] = {
    a_pool_child_is_killed: SOUND,
    a_queue_is_full: SOUND,
    one_is_put_twice: SOUND,
    a_binding_is_taken_away: SOUND,
    one_is_a_poison: DEAD,
    the_broker_restarts: SOUND,
}
#: What is taken away, where it is missed, and what the audit then shows.
MUTATIONS = [
    ("late_acknowledgement_off", a_pool_child_is_killed, LOST),
    ("reject_on_worker_lost_off", a_pool_child_is_killed, LOST),
    ("confirms_off", a_queue_is_full, LOST),
    ("reject_publish_off", a_queue_is_full, LOST),
    ("ledgers_key_off", one_is_put_twice, EATEN_TWICE),
    ("mandatory_off", a_binding_is_taken_away, LOST),
    ("delivery_limit_off", one_is_a_poison, FOR_EVER),
    ("durable_off", the_broker_restarts, LOST),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_with_all_settings_the_promise_holds_when(private_place: Place, scenario: Callable[..., str]) -> None:
    assert scenario(private_place) == SCENARIOS[scenario]


@pytest.mark.parametrize(("mutation", "scenario", "shown"), MUTATIONS, ids=[name for name, *_ in MUTATIONS])
def test_the_promise_is_seen_to_break_with(
    private_place: Place, mutation: str, scenario: Callable[..., str], shown: str
) -> None:
    assert scenario(private_place, mutation) == shown
