"""The producer: each put is confirmed, or an error by its deadline, and nothing accepted is forgotten."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from baozi.journal import Event, read_journal
from baozi.settings import Settings
from tests.integration.place import QUEUE_IS_GONE, Place
from tests.waiting import wait_until


def test_the_audit_proves_that_all_produced_baozi_are_eaten(place: Place) -> None:
    place.worker("小明")
    result = place.produce("r", "老王", 50)
    assert result == {"run": "r", "producer": "老王", "accepted": 50, "unknown": 0, "closed": True}
    done = place.run("audit", "r", "--wait", "30", "--json")
    assert done.returncode == 0, done.stderr
    total = json.loads(done.stdout)["total"]
    assert (total["accepted"], total["eaten"], total["lost"], total["duplicated"]) == (50, 50, 0, 0)


def test_the_audit_names_what_is_lost_and_exits_with_1(private_place: Place) -> None:
    private_place.produce("r", "egon", 5)
    with private_place.producer() as producer:
        for _ in range(2):  # numbers 0 and 1 are thrown away behind the ledger's back
            channel: Any = producer.channel
            channel.basic_ack(channel.basic_get("baozi", no_ack=False).delivery_tag)
    private_place.worker("小明")
    done = private_place.run("audit", "r", "--wait", "3")
    assert done.returncode == 1
    assert "egon: the first missing numbers are 0 to 1." in done.stdout
    assert "5 accepted, 3 eaten, 2 lost" in done.stdout


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts and then never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def failing(place: Place, *more: str, **settings: object) -> tuple[subprocess.CompletedProcess[str], float]:
    """Produce; return how it ended, and the seconds that it took beyond what the command takes to start."""
    began = time.monotonic()
    assert place.run("produce", "--help").returncode == 0
    to_start = time.monotonic() - began
    arguments = ["produce", "--name", "egon", "--count", "3", "--run", "r", "--json", *more]
    done = place.run(*arguments, **settings)
    return done, time.monotonic() - began - 2 * to_start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith("."), line
    return line


def test_a_broker_that_is_away_is_an_error_by_the_deadline(private_place: Place) -> None:
    done, took = failing(private_place, "--timeout", "2", broker_url=f"amqp://a:b@127.0.0.1:{free_port()}//")
    assert done.returncode == 3
    assert "does not answer" in one_sentence(done)
    assert took < 10


def test_a_broker_that_hangs_after_accept_is_an_error_by_the_deadline(private_place: Place) -> None:
    with silent_server() as port:
        done, took = failing(private_place, "--timeout", "2", broker_url=f"amqp://a:b@127.0.0.1:{port}//")
    assert done.returncode == 3
    assert "does not answer" in one_sentence(done)
    assert took < 15


def test_a_wrong_password_is_an_error_at_once_and_is_not_repeated(private_place: Place) -> None:
    url = private_place.node.user_url("baozi", "geheim-und-falsch", private_place.virtual_host)
    done, took = failing(private_place, broker_url=url)
    assert done.returncode == 3
    assert "refuses the user or the password" in one_sentence(done)
    assert "geheim-und-falsch" not in done.stderr + done.stdout
    assert took < 15


def test_a_missing_virtual_host_is_an_error_at_once(private_place: Place) -> None:
    done, took = failing(private_place, broker_url=private_place.url + "-is-not-there")
    assert done.returncode == 3
    assert "no such virtual host" in one_sentence(done)
    assert took < 15


def test_a_memory_alarm_is_waited_out_to_the_deadline_and_named(place: Place) -> None:
    with place.node.memory_alarm():
        done, took = failing(place, "--timeout", "3")
    assert done.returncode == 3
    assert "alarm is on" in one_sentence(done)
    assert took < 15
    assert json.loads(done.stdout)["closed"] is False


def test_a_put_goes_on_when_the_alarm_clears(place: Place) -> None:
    arguments = ["--name", "egon", "--count", "3", "--run", "r", "--timeout", "120", "--json"]
    with place.node.memory_alarm():
        producer = place.popen("produce", *arguments)
        wait_until(lambda: place.node.blocked_connections() > 0, "the producer to be blocked")
    out, err = producer.communicate(timeout=90)
    assert producer.returncode == 0, err
    assert json.loads(out)["accepted"] == 3


def test_a_full_queue_makes_a_put_wait_and_then_is_an_error(place: Place) -> None:
    done = place.run(
        "produce", "--count", "40", "--run", "r", "--name", "egon", "--timeout", "2", "--json", capacity=3
    )
    assert done.returncode == 5
    assert "The queue stayed full" in one_sentence(done)
    result = json.loads(done.stdout)
    # The bound of a quorum queue is soft: one at a time, it took one more than asked (docs/reliability.md).
    assert 3 <= result["accepted"] <= 4
    assert place.waiting() == result["accepted"]


def test_the_bound_is_the_brokers_so_it_holds_over_many_producers(place: Place) -> None:
    names = [f"p{number}" for number in range(6)]
    arguments = ["--count", "10", "--run", "r", "--timeout", "3", "--json"]
    producers = [place.popen("produce", "--name", name, *arguments, capacity=3) for name in names]
    accepted = [json.loads(producer.communicate(timeout=60)[0])["accepted"] for producer in producers]
    # Soft: each of them may get one in before the queue's leader hears of the others'.
    assert 3 <= sum(accepted) <= 3 + len(names)
    assert place.waiting() == sum(accepted)


def test_a_put_that_waits_for_a_full_queue_continues_when_a_consumer_eats(place: Place) -> None:
    producer = place.popen("produce", "--name", "egon", "--count", "20", "--run", "r", "--json", capacity=3)
    wait_until(lambda: place.waiting() in {3, 4}, "the queue to be full")
    place.worker("小明", capacity=3)
    out, err = producer.communicate(timeout=60)
    assert producer.returncode == 0, err
    assert json.loads(out)["accepted"] == 20
    wait_until(lambda: place.eaten("r") == 20, "all to be eaten")


def test_a_queue_that_stays_full_keeps_each_producers_order_and_what_was_refused_is_not_accepted(
    private_place: Place,
) -> None:
    place = private_place
    place.worker("小明", capacity=3, eat_seconds=0.1, journal=place.home)
    arguments = ["--count", "20", "--run", "r", "--json"]
    names = ("alex", "egon", "peiqi")
    producers = [place.popen("produce", "--name", name, *arguments, capacity=3) for name in names]
    wait_until(lambda: place.eaten("r") > 5, "the work to be under way")
    assert place.waiting() <= 3 + len(names), "the bound is soft, and holds"
    for producer in producers:
        out, complaint = producer.communicate(timeout=60)
        assert (producer.returncode, json.loads(out)["accepted"]) == (0, 20), complaint
    done = place.run("audit", "r", "--wait", "30", "--orders", "3", "--json")
    total = json.loads(done.stdout)["total"]
    assert (total["eaten"], total["lost"], total["duplicated"], total["unexpected"]) == (60, 0, 0, 0)
    eaten = [it.baozi_id for it in read_journal(place.home / "consumer" / "小明.journal")]
    for name in names:
        numbers = [int(it.rpartition("/")[2]) for it in eaten if f"/{name}/" in it]
        assert numbers == sorted(numbers), name


def test_a_queue_that_is_deleted_while_a_producer_uses_it_is_an_error(private_place: Place) -> None:
    arguments = ["--name", "egon", "--count", "0", "--interval", "0.05", "--run", "r", "--json"]
    producer = private_place.popen("produce", *arguments)
    wait_until(lambda: private_place.waiting() > 2, "the producer to be at work")
    private_place.node.api("DELETE", f"queues/{private_place.virtual_host}/baozi")
    _, err = producer.communicate(timeout=40)
    assert producer.returncode == 5, err
    assert err.startswith(QUEUE_IS_GONE)


def test_a_queue_that_was_deleted_while_a_producer_was_away_is_an_error(private_place: Place) -> None:
    arguments = ["--name", "egon", "--count", "0", "--interval", "0.05", "--run", "r", "--json"]
    producer = private_place.popen("produce", *arguments)
    wait_until(lambda: private_place.waiting() > 2, "the producer to be at work")
    producer.send_signal(signal.SIGSTOP)
    private_place.node.api("DELETE", f"queues/{private_place.virtual_host}/baozi")
    private_place.node.close_connections(private_place.virtual_host)
    producer.send_signal(signal.SIGCONT)
    out, err = producer.communicate(timeout=40)
    assert producer.returncode == 5, err
    assert err.startswith("The broker has no such exchange or queue")
    assert not json.loads(out)["closed"]


def test_ctrl_c_finishes_the_current_put_and_closes_the_order(private_place: Place) -> None:
    private_place.worker("小明")
    arguments = ["--name", "egon", "--count", "0", "--interval", "0.01", "--run", "r", "--json"]
    producer = private_place.popen("produce", *arguments)
    wait_until(lambda: private_place.eaten("r") > 5, "the producer to be at work")
    producer.send_signal(signal.SIGINT)
    out, err = producer.communicate(timeout=20)
    assert producer.returncode == 0, err
    result = json.loads(out)
    assert result["closed"]
    done = private_place.run("audit", "r", "--wait", "20", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["total"]["eaten"] == result["accepted"]


def test_sigterm_before_the_end_closes_the_order_and_exits_130(private_place: Place) -> None:
    arguments = ["--name", "egon", "--count", "1000", "--interval", "0.05", "--run", "r", "--json"]
    producer = private_place.popen("produce", *arguments)
    wait_until(lambda: private_place.waiting() > 2, "the producer to be at work")
    producer.send_signal(signal.SIGTERM)
    out, _ = producer.communicate(timeout=20)
    assert producer.returncode == 130
    assert json.loads(out)["closed"]


@pytest.mark.parametrize("attempt", range(3))
def test_a_killed_producer_resumes_with_no_number_twice_and_none_missing(place: Place, attempt: int) -> None:
    place.worker("小明")
    count = 8_000
    arguments = ["--name", "egon", "--count", str(count), "--run", "r", "--json"]
    producer = place.popen("produce", *arguments)
    wait_until(lambda: accepted(place) > 200 * attempt, "the producer to be at work")
    producer.kill()
    producer.communicate(timeout=10)
    assert accepted(place) < count
    result = place.produce("r", "egon", count, "--resume")
    assert result["accepted"] == count
    done = place.run("audit", "r", "--wait", "30", "--json")
    total = json.loads(done.stdout)["total"]
    assert (total["accepted"], total["eaten"], total["lost"], total["unexpected"]) == (count, count, 0, 0)


def accepted(place: Place) -> int:
    """How many of egon's were accepted, by its journal."""
    path = place.home / "runs" / "r" / "egon.journal"
    return sum(it.event is Event.ACCEPTED for it in read_journal(path)) if path.exists() else 0


def test_progress_is_a_line_a_second_where_there_is_no_terminal(private_place: Place) -> None:
    arguments = ["--name", "egon", "--count", "25", "--interval", "0.1", "--run", "r"]
    done = private_place.run("produce", *arguments)
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 4
    assert all(re.fullmatch(r"egon: \d+ of 25 accepted", line) for line in lines)
    assert done.stdout == "egon: 25 accepted in run r, order closed\n"


def test_progress_is_a_bar_on_a_terminal(private_place: Place) -> None:
    command = shlex.join(
        [sys.executable, "-m", "baozi", "produce", "--name", "egon", "--count", "9", "--run", "r"]
    )
    shown = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env={**os.environ, **private_place.environment(), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "9/9" in shown.stdout
    assert "━━━" in shown.stdout


def test_a_second_run_of_the_same_name_is_a_usage_error(private_place: Place) -> None:
    private_place.produce("r", "egon", 2)
    done, _ = failing(private_place)
    assert done.returncode == 2
    assert "has already worked in run r" in one_sentence(done)
    assert private_place.waiting() == 3, "two baozi and the order, and nothing more"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--count", "-1"], "--count"),
        (["--name", ""], "name is empty"),
        (["--name", "x" * 300], "over 60 characters"),
        (["--name", "a/b"], "must not contain '/'"),
        (["--run", "../r"], "must not contain '/'"),
        (["--interval", "-1"], "--interval"),
        (["--interval", "nan"], "--interval"),
        (["--timeout", "0"], "0"),
        (["--resume"], "--resume needs the --run"),
        (["--noodles"], "noodles"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    private_place: Place, arguments: list[str], says: str
) -> None:
    done = private_place.run("produce", *arguments)
    assert done.returncode == 2
    assert says in one_sentence(done)


def test_a_full_disk_under_the_journal_is_reported_and_loses_nothing(private_place: Place) -> None:
    arguments = ["produce", "--name", "egon", "--count", "9", "--run", "r"]
    # Room for a few of its lines of some 35 bytes each.
    command = ["prlimit", "--fsize=100", sys.executable, "-m", "baozi", *arguments]
    environment = {**os.environ, **private_place.environment()}
    full = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert full.returncode == 2
    assert "journal cannot be written" in one_sentence(full)
    assert private_place.produce("r", "egon", 9, "--resume")["accepted"] == 9
    private_place.worker("小明")
    done = private_place.run("audit", "r", "--wait", "20", "--json")
    assert json.loads(done.stdout)["total"]["eaten"] == 9


def test_a_producer_without_configure_permission_uses_the_existing_queues(place: Place) -> None:
    place.produce("before", "egon", 1)
    url = place.node.make_user("producer", place.virtual_host, configure="^$", write="^baozi$", read="^$")
    assert place.produce("r", "egon", 3, broker_url=url)["accepted"] == 3


def test_a_producer_without_write_permission_gets_an_error(private_place: Place) -> None:
    private_place.produce("before", "egon", 1)
    url = private_place.node.make_user(
        "reader", private_place.virtual_host, configure="^$", write="^$", read=".*"
    )
    done, took = failing(private_place, broker_url=url)
    assert done.returncode == 3
    assert "does not permit this" in one_sentence(done)
    assert took < 15


def test_the_deadline_is_half_a_minute_unless_asked_otherwise() -> None:
    assert Settings().broker_timeout == 30


def test_the_next_node_of_a_cluster_is_taken_where_one_is_away(private_place: Place) -> None:
    url = urlsplit(private_place.url)
    nobody = f"amqp://baozi:secret@127.0.0.1:{free_port()}{url.path}"
    nodes: dict[str, Any] = {"broker_url": f"{nobody};{private_place.url}", "broker_timeout": 10}
    private_place.worker("小明", **nodes)
    done, _ = failing(private_place, **nodes)
    assert (done.returncode, json.loads(done.stdout)["accepted"]) == (0, 3), done.stderr
    audited = private_place.run("audit", "r", "--wait", "30", **nodes)
    assert "3 accepted, 3 eaten, 0 lost" in audited.stdout, audited.stderr
