"""Celery's own ways to name a broker never take a part of the project to another one."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.place import Place
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
DELAY = """
import sys
from baozi.errors import BaoziError
from tasks.eating import eat
try:
    eat.apply_async(({"run": "r", "producer": "alex", "number": 0, "made_at": 0},), retry=False)
except BaoziError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
WORKER = ["-m", "celery", "--quiet", "-A", "tasks", "worker", "-c", "1", "-P", "solo"]
PROGRAMS = {
    "worker": WORKER,
    "eat.delay": ["-c", DELAY],
    "produce": ["-m", "baozi", "produce", "--count", "1"],
    "dead": ["-m", "baozi", "dead", "list"],
}


@pytest.fixture
def other(private_place: Place) -> Iterator[str]:
    """A virtual host that is not the one of the settings, of the same broker."""
    name = f"{private_place.virtual_host}-other"
    yield private_place.node.make_virtual_host(name)
    private_place.node.delete_virtual_host(name)


def run(place: Place, program: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", *program],
        env={**os.environ, **place.environment(), **variables},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], other: str) -> bool:
    assert str(urlsplit(other).password) not in done.stdout + done.stderr
    said = done.stderr.strip().splitlines()
    return done.returncode == 2 and len(said) == 1 and "names another broker than BAOZI_BROKER_URL" in said[0]


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_variable_of_celerys_that_names_another_broker_is_refused(
    program: str, variable: str, private_place: Place, other: str
) -> None:
    done = run(private_place, PROGRAMS[program], **{variable: other})
    assert refused(done, other), done.stderr
    assert variable in done.stderr


def test_an_audit_asks_no_other_broker_for_the_dead_letters(private_place: Place, other: str) -> None:
    private_place.produce("before", "alex", 1)
    private_place.worker("小明")
    wait_until(lambda: private_place.eaten("before") == 1, "the worker to eat")
    for variable in VARIABLES:
        done = run(private_place, ["-m", "baozi", "audit", "before"], **{variable: other})
        assert refused(done, other), done.stderr


@pytest.mark.parametrize("value", ["nonsense", "redis://h", "amqp://u:p#q@h"])
def test_a_variable_of_celerys_that_is_no_broker_is_refused(value: str, private_place: Place) -> None:
    done = run(private_place, PROGRAMS["produce"], CELERY_BROKER_URL=value)
    assert done.returncode == 2
    assert "CELERY_BROKER_URL names another broker" in done.stderr
    assert value not in done.stderr


@pytest.mark.parametrize("option", ["-b", "--broker", "broker_url", "broker_read_url", "broker_write_url"])
def test_a_workers_option_that_names_another_broker_is_refused(
    option: str, private_place: Place, other: str
) -> None:
    if option.startswith("-"):
        program = ["-m", "celery", option, other, *WORKER[2:]]
    else:
        program = [*WORKER, f"{option}={other}"]
    assert refused(run(private_place, program), other)


def test_a_variable_of_celerys_that_names_the_same_broker_is_taken(private_place: Place) -> None:
    same = private_place.url.replace("amqp://", "pyamqp://")
    for program in ("produce", "eat.delay", "dead"):
        done = run(private_place, PROGRAMS[program], CELERY_BROKER_URL=same, CELERY_BROKER_READ_URL="")
        assert done.returncode == 0, done.stderr
    assert private_place.waiting() == 3  # one baozi of each, and the order


def test_no_command_of_celerys_shows_the_password_of_any_node(private_place: Place) -> None:
    password = str(urlsplit(private_place.url).password)
    cluster = f"{private_place.url};{private_place.url}"
    private_place.worker("小明", broker_url=cluster)
    # To one worker, so that its answer ends the wait.
    ask = ["inspect", "-t", "30", "-d", f"小明@{socket.gethostname()}"]
    for command in (["report"], [*ask, "stats"], [*ask, "conf"], [*ask, "report"]):
        program = ["-m", "celery", "-A", "tasks", *command]
        done = run(private_place, program, BAOZI_BROKER_URL=cluster)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 100
        assert password not in done.stdout + done.stderr, command
