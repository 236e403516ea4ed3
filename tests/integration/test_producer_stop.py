"""A producer that is told to stop: it has a stated time to confirm what is in hand and to close its order."""

import json
import signal
import subprocess
import time

import pytest

from tests.integration.place import Place
from tests.integration.rabbitmq import Node
from tests.integration.test_producing import accepted
from tests.waiting import wait_until

ENDLESS = ["produce", "--name", "egon", "--count", "0", "--interval", "0.01", "--run", "r", "--json"]
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def blocked(place: Place, *more: str) -> "subprocess.Popen[str]":
    """A producer that waits for the broker: a memory alarm is on."""
    producer = place.popen(*ENDLESS, *more)
    wait_until(lambda: place.node.blocked_connections() > 0, "the producer to be blocked")
    return producer


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_while_the_broker_takes_nothing_closes_the_order_once_it_does(
    place: Place, number: signal.Signals
) -> None:
    with place.node.memory_alarm():
        producer = blocked(place, "--stop-timeout", "40")
        producer.send_signal(number)
        assert producer.stderr is not None
        said = producer.stderr.readline()
    out, err = producer.communicate(timeout=60)
    assert "for 40 s at most" in said
    assert "A second signal ends at once" in said
    assert (producer.returncode, json.loads(out)["closed"]) == (0, True), err


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_at_once_and_says_that_the_order_is_open(
    private_place: Place, first: signal.Signals, second: signal.Signals
) -> None:
    with private_place.node.memory_alarm():
        producer = blocked(private_place, "--stop-timeout", "60")
        producer.send_signal(first)
        assert producer.stderr is not None
        producer.stderr.readline()
        began = time.monotonic()
        producer.send_signal(second)
        out, err = producer.communicate(timeout=40)
    assert time.monotonic() - began < 30
    assert (producer.returncode, json.loads(out)["closed"]) == (130, False)
    assert err.strip().splitlines()[-1] == "Interrupted: the order is left open. Go on with --resume."


def test_the_time_after_a_stop_is_bounded(private_place: Place) -> None:
    with private_place.node.memory_alarm():
        producer = blocked(private_place, "--timeout", "300")
        producer.terminate()
        began = time.monotonic()
        out, err = producer.communicate(timeout=60)
    assert 8 <= time.monotonic() - began < 40
    assert (producer.returncode, json.loads(out)["closed"]) == (130, False)
    assert "did not confirm what is in hand within 10 s of the stop (BAOZI_STOP_TIMEOUT)" in err


def test_a_stop_while_a_producer_reconnects_closes_the_order(private_place: Place) -> None:
    place = private_place
    # The broker may close its connection long before the command that has it do so returns. With the default
    # of 30 s the put might be given up before the stop.
    producer = place.popen(*ENDLESS, "--stop-timeout", "50", "--timeout", "300")
    wait_until(lambda: accepted(place) > 5, "the producer to be at work")
    user = forbid(place.node, place.virtual_host)
    try:
        place.node.close_connections(place.virtual_host)
        producer.terminate()
        assert producer.stderr is not None
        wait_until(producer.stderr.readline, "the producer to say what it waits for")
        assert producer.poll() is None, "it waits for its connection"
    finally:
        allow(place.node, place.virtual_host, user)
    out, err = producer.communicate(timeout=60)
    assert (producer.returncode, json.loads(out)["closed"]) == (0, True), err
    place.worker("小明")
    done = place.run("audit", "r", "--wait", "30", "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["total"]["accepted"] == json.loads(out)["accepted"]


def forbid(node: Node, virtual_host: str) -> str:
    """Let no more connections in."""
    node.api("PUT", f"vhost-limits/{virtual_host}/max-connections", {"value": 0})
    return virtual_host


def allow(node: Node, virtual_host: str, _: str) -> None:
    node.api("DELETE", f"vhost-limits/{virtual_host}/max-connections")


def test_numbers_of_unknown_outcome_are_put_again_before_a_stopped_order_is_closed(
    private_place: Place,
) -> None:
    place = private_place
    journal = place.home / "runs" / "r" / "egon.journal"
    journal.parent.mkdir(parents=True)
    order = "0123456789abcdef0123456789abcdef"
    lines = [f"1.0 opened r/egon/{order}/1", *(f"1.0 attempted r/egon/{n}" for n in range(300))]
    lines += [f"1.0 accepted r/egon/{n}" for n in range(1, 300)]
    journal.write_text("\n".join(lines) + "\n")
    producer = place.popen(*ENDLESS, "--resume")
    wait_until(lambda: accepted(place) > 310, "the producer to be at work")
    producer.terminate()
    out, err = producer.communicate(timeout=60)
    result = json.loads(out)
    assert (producer.returncode, result["unknown"], result["closed"]) == (0, 0, True), err
