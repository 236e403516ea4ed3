"""An order on a real broker: killed at each of its steps, resumed, and eaten by a real worker once each."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection

from baozi.errors import QueueFull, Unroutable
from baozi.settings import settings
from tasks.eating import eat
from tests.integration.ordering import MOMENTS, NAME, RUN, order_of, row
from tests.integration.place import Place
from tests.waiting import wait_until

COUNT = 12


def purge(connection: Connection) -> None:
    channel: Any = connection.default_channel  # the stubs leave its methods out
    channel.queue_purge("baozi")


def ordering(place: Place, *arguments: str, **changes: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.ordering", *arguments],
        env={**os.environ, **place.environment(**changes)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ordered(place: Place, *arguments: str, **changes: object) -> tuple[int, str]:
    process = ordering(place, *arguments, **changes)
    out, err = process.communicate(timeout=60)
    return process.returncode, out or err


def total(place: Place) -> dict[str, Any]:
    done = place.run("audit", RUN, "--wait", "30", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["total"]
    return found


#: How often a moment must have come when the process is killed at it: early, and late.
TIMES = {"opened": [1], "closing": [1], "closed": [1], "flush": [2, 9], "publish": [1, 5]}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_step_an_order_resumes_and_each_number_is_eaten_once(
    private_place: Place, moment: str, when: str
) -> None:
    place = private_place
    for times in TIMES.get(moment, [1, 3]):
        assert ordered(place, str(COUNT), f"{when}-{moment}:{times}") == (-signal.SIGKILL, "")
    code, said = ordered(place, str(COUNT))
    assert code == 0, said
    assert json.loads(said) == {"accepted": COUNT}
    place.worker("小明")
    sums = total(place)
    assert (sums["accepted"], sums["eaten"], sums["lost"], sums["unexpected"]) == (COUNT, COUNT, 0, 0)


def test_an_order_that_was_killed_and_not_resumed_is_open_in_the_audit(private_place: Place) -> None:
    place = private_place
    ordered(place, str(COUNT), "before-closing:1")
    place.worker("小明")
    wait_until(lambda: place.eaten(RUN) == COUNT, "all to be eaten")
    done = place.run("audit", RUN, "--wait", "1")
    assert done.returncode == 1
    assert f"Not closed: the order of {NAME}." in done.stdout


def test_two_processes_at_once_with_one_name_are_one_order(private_place: Place) -> None:
    place = private_place
    with place.node.memory_alarm():
        first = ordering(place, "3")
        wait_until(lambda: place.node.blocked_connections() > 0, "the first to be at work")
        code, said = ordered(place, "3")
    out, err = first.communicate(timeout=60)
    assert (code, first.returncode) == (1, 0), err
    assert f"Another process is producer {NAME} of run {RUN} at this moment." in said
    assert json.loads(out) == {"accepted": 3}


def test_one_name_on_two_machines_is_two_orders_and_the_second_one_is_dead_lettered(
    private_place: Place,
) -> None:
    place = private_place
    for machine in ("here", "there"):
        code, said = ordered(place, "3", home=place.home / machine)
        assert code == 0, said
    place.worker("小明")
    wait_until(lambda: place.waiting("baozi.dead") == 3, "the second order's to be dead-lettered")
    assert "another order" in place.run("dead", "list", "--json").stdout
    assert place.eaten(RUN) == 3


@pytest.fixture
def here(private_place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with private_place.in_this_process(monkeypatch):
        yield private_place


def test_the_frames_of_an_order_are_those_that_apply_async_sends(here: Place) -> None:
    """Without options a message is framed by hand; with one that changes nothing, Celery makes it."""
    calls: list[dict[str, Any]] = [
        {"args": ({"id": "it's", "b": ['"', "\\", "包子", None, True, 1.5, 2**60]},)},
        {"args": ("x" * 3_000,)},
        {"kwargs": {"item": {"a": []}}},
        {"args": ([],)},
        {"args": ({},)},
    ]

    def sent(**options: Any) -> list[Any]:
        with order_of(settings(), RUN, NAME, resume=True) as order:
            order.put(*(eat.signature(**call).set(**options) for call in calls))
        (here.home / "runs" / RUN / f"{NAME}.journal").unlink()
        found = []
        with Connection(here.url) as connection:
            channel: Any = connection.default_channel
            while (message := channel.basic_get("baozi", no_ack=True)) is not None:
                message.headers.pop("baozi-order")
                assert message.headers.pop("baozi-made-at", 1.0) > 0
                properties = {k: v for k, v in message.properties.items() if k != "application_headers"}
                found.append((message.headers, properties, message.body))
        return found

    framed, celerys = sent(), sent(ignore_result=True)
    assert len(framed) == len(calls) + 1
    assert framed[:-1] == celerys[:-1]
    assert [headers["baozi-number"] for headers, *_ in framed[:-1]] == list(range(len(calls)))


def test_a_delayed_task_is_put_and_comes_when_it_is_due(private_place: Place, monkeypatch: Any) -> None:
    place = private_place
    place.worker("小明")
    with (
        place.in_this_process(monkeypatch),
        order_of(settings(), RUN, NAME) as order,
    ):
        order.put(row(0).set(countdown=2), row(1))
        order.flush()
    wait_until(lambda: place.eaten(RUN) == 2, "both to be eaten")
    sums = total(place)
    assert (sums["accepted"], sums["eaten"], sums["lost"]) == (2, 2, 0)


@pytest.mark.usefixtures("here")
def test_a_full_queue_is_an_error_by_the_deadline_and_the_order_goes_on_later(here: Place) -> None:
    few = settings().model_copy(update={"capacity": 3, "broker_timeout": 1})
    with pytest.raises(QueueFull) as full, order_of(few, RUN, NAME) as order:
        order.put(*(row(number) for number in range(20)))
    assert "left open" in full.value.__notes__[0]
    with Connection(here.url) as connection:
        purge(connection)
    with order_of(few, RUN, NAME, resume=True) as order:
        order.put(*(row(number) for number in range(3)))
        wait_until(lambda: here.waiting() > 0, "some to be there")
        with Connection(here.url) as connection:
            purge(connection)
        assert order.progress.attempted == 20
        # What the earlier process attempted is put again in the same order.
        for number in range(3, 20):
            with Connection(here.url) as connection:
                purge(connection)
            order.put(row(number))
    assert order.progress.accepted == 20


@pytest.mark.usefixtures("here")
def test_a_deleted_queue_is_an_error_and_the_order_stays_open(here: Place) -> None:
    with pytest.raises(Unroutable) as gone, order_of(settings(), RUN, NAME) as order:  # noqa: PT012  # it is the block that raises
        order.put(row(0))
        order.flush()
        here.node.api("DELETE", f"queues/{here.virtual_host}/baozi")
        order.put(row(1))
        order.flush()
    assert "1 accepted, 1 of unknown outcome" in gone.value.__notes__[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_of_a_block_is_bounded_while_the_broker_takes_nothing(
    private_place: Place, number: signal.Signals
) -> None:
    place = private_place
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from baozi.settings import settings as s\n"
        "from baozi.order import Order; from tests.integration.ordering import *\n"
        # As a user's program: the order itself listens to signals.
        "from tasks.app import reliable; order = reliable.order(NAME, run=RUN)\n"
        "with order:\n    order.put(row(0)); order.flush()"
    )
    with place.node.memory_alarm():
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, **place.environment(stop_timeout=2, broker_timeout=60)},
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: place.node.blocked_connections() > 0, "it to be blocked")
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "for 2 s at most" in said
    assert f"The order {NAME} of run {RUN} is left open" in said
