"""What breaks in the middle of the work of docker compose: whatever it is, nothing is lost.

Workers that are killed or stopped, poison, and a broker that restarts: test_pytest_celery.py.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from baozi.errors import ExitCode
from tests.containers.compose import ROOT, Project
from tests.waiting import wait_until

#: Seconds that one baozi takes; that a stopped worker may go on; both short, for a test.
EAT, SOFT = 0.2, 2


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """小明 and 小红 at work, and whom they need; no producer yet."""
    variables = {"BAOZI_EAT_SECONDS": str(EAT), "BAOZI_SOFT_SHUTDOWN_TIMEOUT": str(SOFT)}
    project = Project(f"baozi-faults-{os.getpid()}", variables)
    try:
        begin(project, "xiaoming", "xiaohong")
        yield project
    finally:
        project.remove()


def begin(project: Project, *services: str) -> None:
    """Bring up ``services``, and wait until they are well."""
    done = project.compose("up", "--detach", "--wait", "--no-recreate", *services)
    assert done.returncode == 0, done.stderr[-2000:]


def order(run: str, count: int, *more: str) -> list[str]:
    return ["run", "--rm", "-T", "produce", "--name", "老王", "--run", run, "--count", str(count), *more]


def produce(project: Project, run: str, count: int) -> None:
    done = project.compose(*order(run, count))
    assert done.returncode == 0, done.stderr


@contextmanager
def producing(project: Project, run: str, count: int, interval: float) -> Iterator["subprocess.Popen[str]"]:
    """A producer at work in the background."""
    command = ["docker", "compose", "--project-name", project.name]
    process = subprocess.Popen(
        [*command, *order(run, count, "--interval", str(interval))],
        cwd=ROOT,
        env={**os.environ, **project.variables},
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


def audit(project: Project, run: str) -> dict[str, Any]:
    """The sums of a run, once it has ended."""
    alone = ["run", "--rm", "--no-deps", "-T", "audit", "baozi", "audit", run]
    done = project.compose(*alone, "--wait", "90", "--json")
    assert done.stdout, done.stderr
    total: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["total"]
    return total


def ledger(project: Project, query: str) -> list[str]:
    """The rows that ``query`` finds; none while PostgreSQL is away."""
    psql = ["psql", "--username", "postgres", "--dbname", "baozi", "--tuples-only", "--no-align"]
    return project.compose("exec", "-T", "postgres", *psql, "--command", query).stdout.split()


def wait_for_work(project: Project, run: str, count: int) -> None:
    """Wait until some of ``run`` is eaten, and see that more is to be: so each worker has one in hand."""

    def eaten() -> int:
        counted = ledger(project, f"SELECT count(*) FROM eaten WHERE run = '{run}'")  # noqa: S608  # a test's name
        return int(counted[0]) if counted else 0

    assert wait_until(eaten, f"baozi of {run} to be eaten", 60) < count - 10


def test_a_broker_that_is_killed_loses_nothing(project: Project) -> None:
    produce(project, "broker-killed", 80)
    wait_for_work(project, "broker-killed", 80)
    assert project.compose("kill", "rabbitmq").returncode == 0
    begin(project, "rabbitmq")
    sums = audit(project, "broker-killed")
    assert (sums["accepted"], sums["eaten"], sums["lost"]) == (80, 80, 0)


@contextmanager
def disk_alarm(project: Project) -> Iterator[None]:
    """The broker's disk is full, as far as it knows."""
    project.rabbitmqctl("set_disk_free_limit", "100000GB")
    try:
        alarms = ("exec", "-T", "rabbitmq", "rabbitmq-diagnostics", "--quiet", "alarms")
        wait_until(lambda: "disk" in project.compose(*alarms).stdout, "the alarm to be on", 30)
        yield
    finally:
        project.rabbitmqctl("set_disk_free_limit", "1GB")


def test_a_minute_without_the_ledger_and_a_disk_alarm_in_it_lose_nothing(project: Project) -> None:
    produce(project, "no-ledger", 60)
    wait_for_work(project, "no-ledger", 60)
    assert project.compose("stop", "postgres").returncode == 0
    away = time.monotonic()

    def both_wait() -> bool:
        return all("Trying again" in project.logs(name) for name in ("xiaoming", "xiaohong"))

    wait_until(both_wait, "both workers to wait for the ledger", 60)
    with disk_alarm(project):
        refused = project.compose(*order("alarm", 5, "--timeout", "5"))
        assert refused.returncode == ExitCode.NO_BROKER
        assert "alarm" in refused.stderr
    # Who produces needs no ledger.
    again = project.compose(*order("alarm", 5, "--resume"))
    assert again.returncode == 0, again.stderr
    wait_until(lambda: time.monotonic() > away + 60, "the minute to be over", 61)
    for name in ("xiaoming", "xiaohong"):
        assert project.services()[name]["State"] == "running"
    begin(project, "postgres")
    for run, count in (("no-ledger", 60), ("alarm", 5)):
        sums = audit(project, run)
        assert (sums["accepted"], sums["lost"], sums["unexpected"]) == (count, 0, 0)


def test_workers_that_are_added_and_removed_under_load_have_different_names(project: Project) -> None:
    def scale(count: int) -> None:
        done = project.compose(
            *("up", "--detach", "--no-recreate", "--no-deps", "--wait", "--scale", f"worker={count}"),
            *("xiaoming", "xiaohong", "worker"),
        )
        assert done.returncode == 0, done.stderr

    with producing(project, "scaled", 250, 0.05) as producer:
        scale(4)
        helpers = "SELECT DISTINCT consumer FROM eaten WHERE run = 'scaled' AND consumer LIKE 'worker-%'"
        wait_until(lambda: len(ledger(project, helpers)) == 4, "all four helpers to eat", 60)
        assert producer.poll() is None
        scale(1)
        _, said = producer.communicate(timeout=100)
        assert producer.returncode == 0, said
    sums = audit(project, "scaled")
    assert (sums["accepted"], sums["eaten"], sums["lost"]) == (250, 250, 0)


def test_a_port_in_use_is_reported_with_its_number(project: Project) -> None:
    taken = project.variables["AMQP_PORT"]
    other = Project(f"{project.name}-port", {"AMQP_PORT": taken})
    try:
        done = other.compose("up", "--detach", "rabbitmq")
        assert done.returncode != 0
        assert taken in done.stderr
    finally:
        other.remove()
