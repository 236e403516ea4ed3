"""No message stops a worker or a consumer of remote_mp, or a command that shows what they left."""

import os
from contextlib import suppress

import pytest

from tests.fuzz import corpus
from tests.fuzz.messages import Message, good, good_item
from tests.fuzz.remote import REMOTE
from tests.fuzz.running import TARGETS, failures, made_for, take, target
from tests.fuzz.wire import Client, Refused
from tests.fuzz.worker import MODES
from tests.integration.rabbitmq import Node

#: What is sent, the same each time: `python -m tests.fuzz` runs with others.
SEED = int(os.environ.get("FUZZ_SEED", "2026"))
MESSAGES = 60

pytestmark = pytest.mark.timeout(600)


def see_that_it_takes(node: Node, name: str, batch: list[Message], with_commands: bool) -> None:
    with target(node, name) as on:
        faults = take(on, batch, with_commands)
        assert on.accepted.total() > len(batch) / 2
    if faults:
        found = failures(node, name, batch, with_commands)
        said = "\n".join(map(str, found)) or "none of them alone"
        pytest.fail(
            "\n".join(fault.what for fault in faults[:5]) + f"\nFUZZ_SEED={SEED}; these fail:\n{said}"
        )


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_the_messages_are_each_has_one_fate_and_the_good_ones_among_them_are_eaten(
    private: Node, name: str
) -> None:
    batch = made_for(name, SEED, MESSAGES)
    see_that_it_takes(private, name, batch, with_commands=name in {"batches", "single"})


@pytest.mark.parametrize("name", MODES)
def test_each_message_that_failed_once_has_one_fate_at_a_worker(private: Node, name: str) -> None:
    see_that_it_takes(private, name, list(corpus.read(corpus.WORKER).values()), name == "batches")


@pytest.mark.parametrize("name", REMOTE)
def test_each_message_that_failed_once_has_one_fate_at_a_consumer(private: Node, name: str) -> None:
    see_that_it_takes(private, name, list(corpus.read(corpus.REMOTE).values()), with_commands=False)


def test_a_message_that_the_broker_refuses_is_counted_as_refused(private: Node) -> None:
    url = private.make_virtual_host("fuzz-refused")
    message = good()
    with Client(url) as client:
        with pytest.raises(Refused, match="no exchange"):
            client.publish("no such exchange", "", message.head, message.wire_body)
        with pytest.raises(Refused):  # a property's flag is set, and no property follows
            client.publish("", "q", b"\x80\x00", b"")
        assert client.count("q") == 0
    private.delete_virtual_host("fuzz-refused")


def test_a_message_of_the_corpus_is_read_as_it_was_written() -> None:
    for message in [*corpus.read(corpus.WORKER).values(), *corpus.read(corpus.REMOTE).values()]:
        with suppress(ValueError):
            assert Message.read(eval(message.literal())) == message  # noqa: S307


def test_the_same_seed_makes_the_same_messages() -> None:
    for name in TARGETS:
        assert made_for(name, SEED, 30) == made_for(name, SEED, 30)
        assert made_for(name, SEED, 30) != made_for(name, SEED + 1, 30)


def test_what_was_sent_is_what_is_read_back() -> None:
    assert good_item().filled(1) != good_item().filled(2)
