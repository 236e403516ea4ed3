"""Celery's own settings: read when they are needed, and never replaced by Celery's defaults."""

import subprocess
import sys
from pathlib import Path

import pytest

FORK = """
import os, sys
import tasks
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
"""
PROGRAM = """
from baozi.errors import NoBroker
from tasks.eating import eat
for _ in range(2):
    try:
        print(eat.app.conf.task_default_queue)
    except NoBroker:
        print("no broker")
"""


@pytest.mark.parametrize(
    ("url", "said"), [("", ["no broker"] * 2), ("BAOZI_BROKER_URL=amqp://a:b@localhost/", ["baozi"] * 2)]
)
def test_without_a_broker_each_need_is_an_error_and_none_ends_on_celerys_own_queue(
    url: str, said: list[str], tmp_path: Path
) -> None:
    environment = {"BAOZI_HOME": str(tmp_path), **dict([url.split("=", 1)] if url else [])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split("\n")[:-1] == said


def test_a_process_that_has_no_broker_can_fork(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env={"BAOZI_HOME": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout + done.stderr == ""


def test_tls_checks_the_host_also_if_kombus_transport_was_used_before(tmp_path: Path) -> None:
    program = """
from kombu.transport import get_transport_cls
get_transport_cls("amqps")
import baozi.amqp.connection
for scheme in ("amqps", "pyamqps"):
    print(get_transport_cls(scheme).__module__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"BAOZI_HOME": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["baozi.upstream.tls", "baozi.upstream.tls"]
