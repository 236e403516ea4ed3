"""A publisher on a network that goes bad: each put is confirmed or raises by its deadline."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from kombu import Connection

from baozi.amqp import confirms
from baozi.amqp import publisher as confirmed
from baozi.amqp.connection import CONNECT_TIMEOUT, broker_errors, connect
from baozi.errors import BrokerAway
from baozi.faults.conditions import CONDITIONS
from baozi.faults.proxy import Address, NetworkCondition, Proxy
from baozi.model import Baozi
from baozi.settings import settings
from producers.publisher import Publisher
from side_by_side.celery_processes import start_worker
from tests.integration.place import Place
from tests.waiting import wait_until

#: Seconds: of a put in all; that it may be late, on a busy machine; of bad condition; of putting.
TIMEOUT, LATE, SPELL, PUTTING = 3, 2, 4, 12


@pytest.fixture
def network(private_place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A network between the broker and this process."""
    parts = urlsplit(private_place.url)
    address = (str(parts.hostname), int(parts.port or 0))
    with closing(Proxy(lambda: address)) as proxy:
        url = through(proxy, private_place.url)
        with private_place.in_this_process(monkeypatch, broker_url=url, broker_timeout=TIMEOUT):
            yield proxy


def through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}").geturl()


def baozi(number: int) -> Baozi:
    return Baozi(run="r", producer="alex", number=number, made_at=time.time())


def copies_in(url: str) -> Counter[str]:
    """The baozi that are in the queue, past the network, and how many copies of each."""
    ids = Counter[str]()
    with Connection(url) as connection:
        channel: Any = connection.default_channel
        while (message := channel.basic_get("baozi", no_ack=True)) is not None:
            ids[Baozi.parse(json.loads(message.body)[0][0]).id] += 1
    return ids


def ids_in(url: str) -> set[str]:
    return set(copies_in(url))


@pytest.mark.parametrize("spell", CONDITIONS)
def test_each_put_is_confirmed_or_raises_by_its_deadline(
    spell: str, network: Proxy, private_place: Place
) -> None:
    accepted, slowest, refused = set[str](), 0.0, 0
    condition = CONDITIONS[spell](Random(7))
    with Publisher("test", settings()) as publisher:
        publisher.put(baozi(0))
        change = threading.Timer(0.2, network.set_condition, [condition])
        clear = threading.Timer(0.2 + SPELL, network.set_condition, [NetworkCondition()])
        change.start()
        clear.start()
        ends_at = time.monotonic() + PUTTING
        number = 0
        while clear.is_alive() or number < 200:
            assert time.monotonic() < ends_at, f"{number} puts, the last accepted: {len(accepted)}"
            number += 1
            began = time.monotonic()
            try:
                publisher.put(one := baozi(number))
                accepted.add(one.id)
            except BrokerAway:
                refused += 1
            slowest = max(slowest, time.monotonic() - began)
        clear.join()
    assert slowest < TIMEOUT + LATE
    assert accepted <= ids_in(private_place.url)
    if condition.down and condition.up and condition.halt_after is None:
        assert len(accepted) > 100
    else:
        assert refused > 0, "the spell was over before a put met it"


@pytest.mark.parametrize("reset", [False, True])
def test_a_put_whose_connection_is_cut_is_put_again(
    reset: bool, network: Proxy, private_place: Place
) -> None:
    with Publisher("test", settings()) as publisher:
        for number in range(200):
            if number % 20 == 10:
                assert network.cut(reset) == 1
            publisher.put(baozi(number))
    assert {f"r/alex/{number}" for number in range(200)} <= ids_in(private_place.url)


def test_a_frame_whose_rest_does_not_come_is_not_waited_for_for_ever(network: Proxy) -> None:
    connection: Any = connect("test")
    network.set_condition(NetworkCondition(halt_after=9))  # a frame's head has seven
    began = time.monotonic()
    with pytest.raises(BrokerAway), broker_errors():
        connection.channel()
    assert time.monotonic() - began < CONNECT_TIMEOUT + LATE
    connection.collect()


def test_a_put_that_meets_silence_goes_to_another_node(
    private_place: Place, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmed, "SILENCE", 0.5)
    reached = Mock(wraps=network.target)
    monkeypatch.setattr(network, "target", reached)
    nodes = f"{through(network, private_place.url)};{private_place.url}"
    with (
        private_place.in_this_process(monkeypatch, broker_url=nodes, broker_timeout=TIMEOUT),
        Publisher("test", settings()) as publisher,
    ):
        publisher.put(baozi(0))
        network.set_condition(NetworkCondition(halt_after=0))
        publisher.put(baozi(1))
        publisher.put(baozi(2))
    assert reached.call_count == 1, "the silent node was tried once more"
    assert ids_in(private_place.url) == {f"r/alex/{number}" for number in range(3)}


def test_a_connection_that_was_lost_while_idle_gets_no_message(
    private_place: Place, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirms, "IDLE", 0, raising=False)
    nodes = f"{through(network, private_place.url)};{private_place.url}"
    with (
        private_place.in_this_process(monkeypatch, broker_url=nodes, broker_timeout=20),
        Publisher("test", settings()) as publisher,
    ):
        publisher.put(baozi(0))
        # What is put arrives, and its confirm does not: sent without a test, it would be sent twice.
        network.set_condition(NetworkCondition(down=False))
        publisher.put(baozi(1))
        publisher.put(baozi(2))
    assert copies_in(private_place.url) == Counter({f"r/alex/{number}": 1 for number in range(3)})


@pytest.mark.parametrize("timeout", [0, 0.0, -1, 0.001])
def test_a_put_with_no_time_does_not_wait_for_the_default_timeout(
    timeout: float, network: Proxy, private_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        private_place.in_this_process(
            monkeypatch, broker_url=through(network, private_place.url), broker_timeout=600
        ),
        Publisher("test", settings()) as publisher,
    ):
        publisher.put(baozi(0))
        network.set_condition(NetworkCondition(down=False))
        # The default would end this test by its own time limit.
        with pytest.raises(BrokerAway):
            publisher.put(baozi(1), timeout=timeout)
        network.set_condition(NetworkCondition())
        publisher.put(baozi(2), timeout=20)
        publisher.put(baozi(3), timeout=float("inf"))


def test_a_worker_does_not_wait_for_ever_for_a_broker_that_accepts_and_says_nothing_more(
    private_place: Place, network: Proxy
) -> None:
    private_place.produce("r", "alex", 5)
    url = through(network, private_place.url)
    network.set_condition(NetworkCondition(halt_after=1 << 30))  # counts, and halts nothing
    with connect("test", url=url):
        [link] = network._links
        handshake = link.from_broker
    network.set_condition(NetworkCondition())
    reached, target = [0], network.target

    def counting() -> Address:
        reached[0] += 1
        if reached[0] == 2:  # the first is that of the worker's checks, the second is the consumer's
            network.set_condition(NetworkCondition(halt_after=handshake))
        return target()

    network.target = counting
    environment = private_place.environment(broker_url=url, broker_timeout=TIMEOUT)
    worker = start_worker(private_place.process_group, "小明", environment)
    wait_until(lambda: reached[0] > 2, "the worker to connect once more", 60)
    network.set_condition(NetworkCondition())
    wait_until(lambda: private_place.eaten("r") == 5, "the worker to eat", 60)
    assert worker.process.poll() is None


def test_a_broker_that_never_answers_is_away_by_the_deadline(network: Proxy) -> None:
    network.set_condition(NetworkCondition(up=False, down=False))
    began = time.monotonic()
    with (
        pytest.raises(BrokerAway),
        Publisher("test", settings()) as publisher,
    ):
        publisher.put(baozi(0))
    assert time.monotonic() - began < TIMEOUT + LATE
