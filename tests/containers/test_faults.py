"""What breaks in the middle of the work, in real containers: whatever it is, nothing is lost."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from baozi.broker import container
from tests.containers.compose import ROOT, Project
from tests.requirements import need
from tests.waiting import wait_until

#: Seconds that one baozi takes; that a stopped worker may go on; both short, for a test.
EAT, SOFT = 0.2, 2


@pytest.fixture(scope="module")
def kitchen() -> Iterator[Project]:
    """小明 and 小红 at work, and whom they need; no producer yet."""
    need(container.engine_answers(), "no Docker engine answers")
    subprocess.run(["deploy/secrets"], cwd=ROOT, check=True, timeout=30, capture_output=True)
    variables = {"BAOZI_EAT_SECONDS": str(EAT), "BAOZI_SOFT_SHUTDOWN_TIMEOUT": str(SOFT)}
    project = Project(f"baozi-faults-{os.getpid()}", variables)
    try:
        built = project.compose("build", timeout=600)
        assert built.returncode == 0, built.stderr[-2000:]
        begin(project, "xiaoming", "xiaohong")
        yield project
    finally:
        project.compose("--profile", "*", "down", "--volumes", "--remove-orphans")


def begin(kitchen: Project, *services: str) -> None:
    """Bring up ``services``, and wait until they are well."""
    done = kitchen.compose("up", "--detach", "--wait", "--no-recreate", *services)
    assert done.returncode == 0, done.stderr[-2000:]


def order(run: str, count: int, *more: str) -> list[str]:
    return ["run", "--rm", "-T", "produce", "--name", "老王", "--run", run, "--count", str(count), *more]


def produce(kitchen: Project, run: str, count: int) -> None:
    done = kitchen.compose(*order(run, count))
    assert done.returncode == 0, done.stderr


@contextmanager
def producing(kitchen: Project, run: str, count: int, interval: float) -> Iterator["subprocess.Popen[str]"]:
    """A producer at work in the background."""
    command = ["docker", "compose", "--project-name", kitchen.name]
    process = subprocess.Popen(
        [*command, *order(run, count, "--interval", str(interval))],
        cwd=ROOT,
        env={**os.environ, **kitchen.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def audit(kitchen: Project, run: str) -> dict[str, Any]:
    """The sums of a run, once it has ended."""
    alone = ["run", "--rm", "--no-deps", "-T", "audit", "baozi", "audit", run]
    done = kitchen.compose(*alone, "--wait", "90", "--json")
    assert done.stdout, done.stderr
    total: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["total"]
    return total


def ledger(kitchen: Project, query: str) -> list[str]:
    """The rows that ``query`` finds; none while PostgreSQL is away."""
    psql = ["psql", "--username", "postgres", "--dbname", "baozi", "--tuples-only", "--no-align"]
    return kitchen.compose("exec", "-T", "postgres", *psql, "--command", query).stdout.split()


def wait_for_work(kitchen: Project, run: str, count: int) -> None:
    """Wait until some of ``run`` is eaten, and see that more is to be: so each worker has one in hand."""

    def eaten() -> int:
        counted = ledger(kitchen, f"SELECT count(*) FROM eaten WHERE run = '{run}'")  # noqa: S608  # a test's name
        return int(counted[0]) if counted else 0

    assert wait_until(eaten, f"baozi of {run} to be eaten", 60) < count - 10


def messages(kitchen: Project, queue: str, which: str = "messages") -> int:
    listed = kitchen.rabbitmqctl("list_queues", "-p", "baozi", "--silent", "name", which).splitlines()
    return int(dict(line.split("\t") for line in listed if "\t" in line)[queue])


def test_a_killed_workers_baozi_are_eaten_by_the_other(kitchen: Project) -> None:
    produce(kitchen, "killed", 80)
    wait_for_work(kitchen, "killed", 80)
    assert kitchen.compose("kill", "xiaoming").returncode == 0
    sums = audit(kitchen, "killed")
    assert (sums["accepted"], sums["eaten"], sums["lost"]) == (80, 80, 0)
    begin(kitchen, "xiaoming")


def test_a_broker_that_restarts_loses_nothing_and_work_goes_on(kitchen: Project) -> None:
    with producing(kitchen, "restarted", 60, 0.1) as producer:
        wait_for_work(kitchen, "restarted", 60)
        assert kitchen.compose("restart", "rabbitmq").returncode == 0
        _, said = producer.communicate(timeout=100)
        assert producer.returncode == 0, said
    sums = audit(kitchen, "restarted")
    assert (sums["accepted"], sums["eaten"], sums["lost"]) == (60, 60, 0)


def test_a_broker_that_is_killed_loses_nothing(kitchen: Project) -> None:
    produce(kitchen, "broker-killed", 80)
    wait_for_work(kitchen, "broker-killed", 80)
    assert kitchen.compose("kill", "rabbitmq").returncode == 0
    begin(kitchen, "rabbitmq")
    sums = audit(kitchen, "broker-killed")
    assert (sums["accepted"], sums["eaten"], sums["lost"]) == (80, 80, 0)


def test_a_ledger_that_is_away_is_waited_for(kitchen: Project) -> None:
    produce(kitchen, "no-ledger", 60)
    wait_for_work(kitchen, "no-ledger", 60)
    assert kitchen.compose("stop", "postgres").returncode == 0

    def both_wait() -> bool:
        return all("Trying again" in kitchen.logs(name) for name in ("xiaoming", "xiaohong"))

    wait_until(both_wait, "both workers to wait for the ledger", 60)
    assert kitchen.services()["xiaoming"]["State"] == "running"
    begin(kitchen, "postgres")
    sums = audit(kitchen, "no-ledger")
    assert (sums["accepted"], sums["eaten"], sums["lost"]) == (60, 60, 0)


def test_a_poison_goes_to_the_dead_letters_and_stops_nobody(kitchen: Project) -> None:
    poison = """
from kombu import Connection
from baozi.settings import settings
with Connection(settings().broker_url.get_secret_value(), connect_timeout=5) as connection:
    producer = connection.Producer()
    producer.publish(b"{", exchange="baozi", routing_key="baozi", content_type="application/json")
"""
    done = kitchen.as_user("xiaoming", poison)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: messages(kitchen, "baozi.dead") == 1, "the poison to be buried", 60)
    produce(kitchen, "after-poison", 10)
    assert audit(kitchen, "after-poison")["lost"] == 0


def test_a_stopped_worker_gives_back_what_it_cannot_finish(kitchen: Project) -> None:
    assert kitchen.compose("stop", "xiaoming", "xiaohong").returncode == 0
    slow = f"{kitchen.name}-slow"
    begun = kitchen.compose(
        *("run", "--detach", "--no-deps", "--name", slow, "--env", "BAOZI_EAT_SECONDS=600", "worker")
    )
    assert begun.returncode == 0, begun.stderr
    produce(kitchen, "stopped", 10)
    wait_until(
        lambda: messages(kitchen, "baozi", "messages_unacknowledged") > 0, "a baozi to be in its mouth", 60
    )
    subprocess.run(["docker", "stop", "--time", "30", slow], check=True, timeout=60, capture_output=True)
    asked = ["docker", "inspect", "--format", "{{.State.ExitCode}}", slow]
    # 137 would say that Docker had to kill it.
    assert subprocess.run(asked, check=True, timeout=30, capture_output=True, text=True).stdout.strip() == "0"
    # Ten, and the message that closes the order.
    wait_until(lambda: messages(kitchen, "baozi", "messages_ready") == 11, "all to be given back", 30)
    begin(kitchen, "xiaoming", "xiaohong")
    sums = audit(kitchen, "stopped")
    assert (sums["accepted"], sums["eaten"], sums["lost"], sums["duplicated"]) == (10, 10, 0, 0)


def test_workers_come_and_go_under_load_each_with_a_name_of_its_own(kitchen: Project) -> None:
    def scale(count: int) -> None:
        done = kitchen.compose(
            *("up", "--detach", "--no-recreate", "--no-deps", "--wait", "--scale", f"worker={count}"),
            *("xiaoming", "xiaohong", "worker"),
        )
        assert done.returncode == 0, done.stderr

    with producing(kitchen, "scaled", 250, 0.05) as producer:
        scale(4)
        helpers = "SELECT DISTINCT consumer FROM eaten WHERE run = 'scaled' AND consumer LIKE 'worker-%'"
        wait_until(lambda: len(ledger(kitchen, helpers)) == 4, "all four helpers to eat", 60)
        assert producer.poll() is None
        scale(1)
        _, said = producer.communicate(timeout=100)
        assert producer.returncode == 0, said
    sums = audit(kitchen, "scaled")
    assert (sums["accepted"], sums["eaten"], sums["lost"]) == (250, 250, 0)


def test_a_disk_alarm_is_one_sentence_to_the_producer_and_loses_nothing(kitchen: Project) -> None:
    kitchen.rabbitmqctl("set_disk_free_limit", "100000GB")
    try:
        alarms = ("exec", "-T", "rabbitmq", "rabbitmq-diagnostics", "--quiet", "alarms")
        wait_until(lambda: "disk" in kitchen.compose(*alarms).stdout, "the alarm to be on", 30)
        refused = kitchen.compose(*order("alarm", 5, "--timeout", "5"))
        assert refused.returncode == 3
        assert "alarm" in refused.stderr
    finally:
        kitchen.rabbitmqctl("set_disk_free_limit", "1GB")
    again = kitchen.compose(*order("alarm", 5, "--resume"))
    assert again.returncode == 0, again.stderr
    sums = audit(kitchen, "alarm")
    assert (sums["accepted"], sums["lost"], sums["unexpected"]) == (5, 0, 0)


def test_a_port_in_use_is_said_by_its_number(kitchen: Project) -> None:
    taken = kitchen.variables["AMQP_PORT"]
    other = Project(f"{kitchen.name}-port", {"AMQP_PORT": taken})
    try:
        done = other.compose("up", "--detach", "rabbitmq")
        assert done.returncode != 0
        assert taken in done.stderr
    finally:
        other.compose("down", "--volumes", "--remove-orphans")
