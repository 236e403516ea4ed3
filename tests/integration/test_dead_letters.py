"""The dead letters: each tells why it died, and none is gone before it is in the queue again."""

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from kombu import Connection
from typer.testing import CliRunner

from baozi.dead_letters import command as dead_command
from baozi.dead_letters import queue as dead_letters
from baozi.errors import UsageError
from baozi.model import Baozi
from baozi.settings import Settings
from baozi.topology import Topology
from tests.integration.place import Place
from tests.waiting import wait_until

#: What no Celery client sent, with all that a message can have on it; the name is the test node's own user.
STRANGE: dict[str, Any] = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "headers": {"filling": "pork"},
    "message_id": "from-the-market",
    "timestamp": 1_700_000_000,
    "reply_to": "nobody",
    "user_id": "baozi",
    "expiration": 3600,
}


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> "Dead":
    """``baozi dead``, in this process: a tenth of the time that a new one takes."""
    return Dead(monkeypatch)


class Dead:
    """Runs the command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run it on whatever place is given, by turning the settings aside."""
        self._patch = monkeypatch

    def turn_to(self, place: Place, **settings: Any) -> None:
        """Work here from now on."""
        self._patch.setattr("baozi.amqp.connection.broker_url", lambda: place.url)
        for module in ("letter", "queue"):
            self._patch.setattr(f"baozi.dead_letters.{module}.settings", lambda: Settings(**settings))

    def says(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command says in JSON, an object a line."""
        done = CliRunner().invoke(dead_command.app, [*arguments, "--json"])
        assert done.exit_code == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def refuses(self, *arguments: str) -> str:
        """The one sentence of a command that cannot do what it was asked for."""
        done = CliRunner().invoke(dead_command.app, arguments)
        assert isinstance(done.exception, UsageError)
        assert done.stdout == ""
        return str(done.exception)


def baozi(number: int) -> Baozi:
    return Baozi(run="r", producer="egon", number=number, made_at=1_700_000_000.0)


def declare(place: Place, **settings: Any) -> None:
    with Connection(place.url, connect_timeout=5) as connection:
        Topology.of(Settings(**settings)).declare(connection)


def dead_letter(place: Place, *numbers: int, **more: Any) -> None:
    """Lay baozi among the dead letters, as a worker would."""
    with place.producer() as producer:
        for number in numbers:
            body = [[baozi(number).model_dump()], {}, {}]
            headers: dict[str, Any] = {"task": "tasks.eat", "id": baozi(number).task_id, "lang": "py"}
            headers |= {"baozi-reason": f"reason {number}", "baozi-deliveries": 1, "baozi-died-at": 5.0}
            producer.publish(body, exchange="baozi.dead", routing_key="baozi", headers=headers, **more)


def give_back_until_it_is_dead(place: Place) -> int:
    """Reject the first message of the queue until the broker takes it away; return how often."""
    times = 0
    with Connection(place.url, connect_timeout=5) as connection:
        channel: Any = connection.channel()

        def dead() -> bool:
            nonlocal times
            message = channel.basic_get("baozi")
            if message is not None:
                times += 1
                channel.basic_reject(message.delivery_tag, requeue=True)
            return place.waiting("baozi.dead") == 1

        wait_until(dead, "the delivery limit to be reached")
    return times


def test_a_dead_letter_has_its_reason_and_is_eaten_when_it_is_replayed(place: Place, dead: Dead) -> None:
    limited: dict[str, Any] = {"delivery_limit": 1}
    declare(place, **limited)
    place.produce("r", "egon", 1, **limited)
    with Connection(place.url, connect_timeout=5) as connection:  # the order, to be there when it is dead
        channel: Any = connection.channel()
        first, order = (channel.basic_get("baozi", no_ack=False) for _ in range(2))
        channel.basic_reject(first.delivery_tag, requeue=True)
        assert give_back_until_it_is_dead(place) == 1, "with the one before, one more than the limit"
        channel.basic_reject(order.delivery_tag, requeue=True)
    before = time.time()
    place.worker("小明", **limited)
    with place.producer() as producer:
        producer.publish("{", exchange="baozi", routing_key="baozi", **STRANGE)
    wait_until(lambda: place.waiting("baozi.dead") == 2, "both to be dead")

    dead.turn_to(place, **limited)
    poison, strange = sorted(dead.says("list"), key=lambda letter: letter["baozi"] is None)
    made = Baozi.model_validate({**baozi(0).model_dump(), "made_at": poison["first_at"]})
    assert (poison["id"], poison["baozi"]) == (made.task_id, "r/egon/0")
    assert (poison["reason"], poison["attempts"]) == ("delivery_limit", 2)
    assert (strange["attempts"], strange["first_at"]) == (1, STRANGE["timestamp"])
    assert "cannot be decoded" in strange["reason"]
    assert (poison["consumer"], strange["consumer"].partition("@")[0]) == (None, "小明")
    assert before - 60 <= poison["last_at"] <= strange["last_at"] + 1 <= time.time() + 1

    (shown,) = dead.says("show", strange["id"][:8])
    assert shown["body"] == "{"
    kept = {name: shown["properties"].get(name) for name in ("message_id", "timestamp", "reply_to")}
    assert kept == {name: STRANGE[name] for name in kept}
    assert not {"user_id", "expiration"} & set(shown["properties"])

    audited = place.run("audit", "r", "--json")
    assert (audited.returncode, json.loads(audited.stdout)["total"]["dead"]) == (1, 1)
    assert dead.says("replay", poison["id"][:8]) == [{"replayed": 1}]
    audited = place.run("audit", "r", "--wait", "30", "--json")
    assert audited.returncode == 0, audited.stderr
    assert json.loads(audited.stdout)["total"]["duplicated"] == 0

    assert dead.says("replay", "--all") == [{"replayed": 1}]
    wait_until(lambda: place.waiting("baozi.dead") == 1, "the worker to dead-letter the strange one again")
    (again,) = dead.says("list")
    assert (again["id"], again["attempts"]) == (strange["id"], 1)
    assert again["last_at"] > strange["last_at"]


#: A replay that is killed between the confirm and the acknowledgement.
KILLED = """
import os, signal
from baozi.__main__ import main
from baozi.dead_letters.queue import DeadLetterBrowser
DeadLetterBrowser.remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_a_replay_that_is_killed_between_confirm_and_acknowledgement_loses_nothing(
    private_place: Place,
) -> None:
    place = private_place
    declare(place)
    dead_letter(place, 0)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "dead", "replay", "--all"],
        env=place.environment(),
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    wait_until(lambda: place.waiting("baozi.dead") == 1, "the letter to be given back")
    assert place.waiting() == 1, "and it is in the queue"
    again = place.run("dead", "replay", "--all", "--json")
    assert (again.returncode, again.stdout) == (0, '{"replayed": 1}\n')
    place.worker("小明")
    wait_until(lambda: (sums := place.sums("r")) and sums.total.duplicated == 1, "it to be delivered twice")
    assert place.eaten("r") == 1


def test_a_replay_into_a_full_queue_waits_then_reports_it_and_keeps_the_letter(private_place: Place) -> None:
    place = private_place
    full: dict[str, Any] = {"capacity": 1}
    declare(place, **full)
    dead_letter(place, 0)
    filled = place.run("produce", "--run", "full", "--count", "9", "--timeout", "1", **full)
    assert filled.returncode == 5, filled.stderr
    began = time.monotonic()
    done = place.run("dead", "replay", "--all", "--timeout", "1", **full)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("The queue stayed full")
    assert 1 <= time.monotonic() - began < 15
    assert place.waiting("baozi.dead") == 1
    waiting = place.popen("dead", "replay", "--all", **full)
    place.worker("小明", **full)
    assert waiting.communicate(timeout=40) == ("1 replayed.\n", "")
    wait_until(lambda: place.sums("r") and place.waiting("baozi.dead") == 0, "the letter to be gone")


def test_browsing_many_dead_letters_shows_all_in_order_and_removes_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baozi.amqp.connection.broker_url", lambda: place.url)
    monkeypatch.setattr(dead_letters, "_PAGE", 10)
    declare(place)
    dead_letter(place, *range(95))
    for _ in range(2):
        numbers = [baozi.number for letter in dead_letters.browse() for baozi in letter.baozi]
        assert numbers == list(range(95))
    with dead_letters.browsing() as browser:
        assert len(list(browser.letters(limit=12))) == 12
    assert dead_letters.of_run("r").by_producer == {"egon": 95}
    wait_until(lambda: place.waiting("baozi.dead") == 95, "the letters to be back in the queue")


def test_browsing_while_another_process_browses_is_an_error_and_not_an_empty_list(
    private_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baozi.amqp.connection.broker_url", lambda: private_place.url)
    declare(private_place)
    dead_letter(private_place, 0)
    with dead_letters.browsing() as browser:
        assert len(list(browser.letters())) == 1
        done = private_place.run("dead", "list", "--timeout", "1")
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("Another command is browsing")
        waiting = private_place.popen("dead", "list", "--json")
    assert len(waiting.communicate(timeout=40)[0].splitlines()) == 1, "waits, and sees it then"


def test_nothing_is_dropped_without_being_asked_for(private_place: Place, dead: Dead) -> None:
    declare(private_place)
    dead.turn_to(private_place)
    assert CliRunner().invoke(dead_command.app, ["list"]).stdout == "There are no dead letters.\n"
    dead_letter(private_place, 0, 1)
    dead_letter(private_place, 1)
    one, two = baozi(0).task_id, baozi(1).task_id
    assert "An id is empty" in dead.refuses("drop", "", "--yes")
    assert "There is no dead letter 'noodles'" in dead.refuses("drop", "noodles", "--yes")
    assert "Add --yes" in dead.refuses("drop", one)
    assert "or give --all" in dead.refuses("replay")
    assert "or give --all" in dead.refuses("replay", one, "--all")
    assert on_a_terminal(private_place, "n", "drop", one[:6]).returncode == 130
    assert private_place.waiting("baozi.dead") == 3
    agreed = on_a_terminal(private_place, "y", "drop", one[:6])
    assert agreed.returncode == 0
    assert "reason 0" in agreed.stdout
    assert private_place.waiting("baozi.dead") == 2
    assert dead.says("drop", two, "--yes") == [{"dropped": 2}], "copies go together"
    assert private_place.waiting("baozi.dead") == 0


def on_a_terminal(place: Place, answer: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = " ".join([sys.executable, "-m", "baozi", "dead", *words])
    return subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env={**place.environment(), "PATH": "/usr/bin:/bin", "TERM": "xterm"},
        input=f"{answer}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_many_dead_letters_that_are_dropped_together_are_deleted(private_place: Place, dead: Dead) -> None:
    declare(private_place)
    dead.turn_to(private_place)
    # RabbitMQ keeps acknowledgements beyond 32 for a while, and forgets them with their channel.
    for _ in range(3):
        dead_letter(private_place, *range(200))
        wait_until(lambda: private_place.waiting("baozi.dead") == 200, "all letters to be there")
        [said] = dead.says("drop", "--yes", *(baozi(number).task_id for number in range(0, 200, 2)))
        assert said == {"dropped": 100}
        # Not sooner: those that are not gone come back when the connection is closed.
        assert len(dead.says("list")) == 100
        dead.says("drop", "--yes", *(baozi(number).task_id for number in range(1, 200, 2)))
        assert dead.says("list") == []


def test_a_user_with_read_permission_can_browse_dead_letters_but_not_replay_them(
    private_place: Place,
) -> None:
    declare(private_place)
    dead_letter(private_place, 0)
    url = private_place.node.make_user("looker", private_place.virtual_host, "^$", "^$", r"^baozi\.dead$")
    listed = private_place.run("dead", "list", "--json", broker_url=url)
    assert len(listed.stdout.splitlines()) == 1, listed.stderr
    done = private_place.run("dead", "replay", "--all", broker_url=url)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("The broker does not permit this")
    assert private_place.waiting("baozi.dead") == 1
