"""No message stops a worker or a consumer of remote_mp, or a command that shows what they left."""

import ast
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.messages import Message, generate, good
from tests.fuzz.remote import REMOTE
from tests.fuzz.running import BROADCASTS, LETTERS, TARGETS, corpus_of, failures, made_for, take, target
from tests.fuzz.wire import Client, Refused
from tests.fuzz.worker import Worker
from tests.integration.rabbitmq import Node

#: What is sent: the same each time, unless one asks for other messages.
SEED = int(os.environ.get("FUZZ_SEED", "2026"))
MESSAGES = 60
#: Workers with threads and ``solo`` differ from these after a message was checked; the long run has all.
TRIED = ("batches", "single", BROADCASTS, LETTERS, *REMOTE)
#: Where the commands are tried on what a worker left; they take most of the time.
WITH_COMMANDS = {"batches"}

pytestmark = pytest.mark.timeout(600)


def check_that_it_handles(node: Node, name: str, batch: list[Message]) -> None:
    with_commands = name in WITH_COMMANDS
    with target(node, name) as on:
        faults = take(on, batch, with_commands)
        assert on.accepted.total() > len(batch) / 2
    if faults:
        found = failures(node, name, batch, with_commands)
        said = "\n".join(map(str, found)) or "none of them alone"
        what = "\n".join(fault.what for fault in faults[:5])
        pytest.fail(f"{what}\nFUZZ_SEED={SEED}; these messages fail:\n{said}")


@pytest.mark.parametrize("name", TRIED)
def test_each_message_of_any_kind_has_one_outcome_and_good_ones_are_eaten(private: Node, name: str) -> None:
    check_that_it_handles(private, name, made_for(name, SEED, MESSAGES))


@pytest.mark.parametrize("name", TRIED)
def test_each_message_that_failed_once_has_one_outcome(private: Node, name: str) -> None:
    check_that_it_handles(private, name, list(corpus.read(corpus_of(name)).values()))


def test_a_lost_message_and_a_worker_that_has_ended_are_noticed(private: Node) -> None:
    with target(private, "single") as on:
        assert isinstance(on, Worker)
        assert on.take([Message("stranger", [(b"x", 1)])]) == []
        on.client.purge("baozi.dead")
        assert [fault.what for fault in on.settle_again(quiet=1)] == ["a message is neither eaten nor dead"]
        on.started.process.kill()
        on.started.process.wait()
        assert "the worker ended" in on.take([good()])[0].what


def test_a_message_that_the_broker_refuses_is_counted_as_refused(private: Node) -> None:
    url = private.make_virtual_host("fuzz-refused")
    message = good()
    with Client(url) as client:
        with pytest.raises(Refused, match="no exchange"):
            client.publish("no such exchange", "", message.head, message.wire_body)
        with pytest.raises(Refused):  # the flag of a property is set, and no property follows
            client.publish("", "q", b"\x80\x00", b"")
        assert client.count("q") == 0
    private.delete_virtual_host("fuzz-refused")


def test_a_message_is_written_as_a_literal_that_makes_it_again() -> None:
    for name in TARGETS:
        for message in made_for(name, SEED, MESSAGES):
            assert Message.read(ast.literal_eval(message.literal())) == message


def test_the_same_seed_makes_the_same_messages_whatever_modules_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = st.lists(st.text() | st.integers().map(str), min_size=20)
    strategy = drawn.map(lambda it: Message("texts", [(text.encode(), 1) for text in it]))
    before = generate(strategy, SEED, MESSAGES)
    # A test that ran before may have imported a module of the project that has constants of its own.
    path = tmp_path / "has_constants.py"
    texts_and_numbers = [f"constant {it}" for it in range(300)], list(range(1000, 1300))
    path.write_text(f"constants = {texts_and_numbers}\n")
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, path.stem, module)
    assert generate(strategy, SEED, MESSAGES) == before


def test_another_seed_makes_other_messages() -> None:
    assert made_for(LETTERS, SEED, 30) == made_for(LETTERS, SEED, 30) != made_for(LETTERS, SEED + 1, 30)
