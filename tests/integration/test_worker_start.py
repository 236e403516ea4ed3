"""A worker that cannot work says so in one sentence and ends with a named exit code."""

import os
import signal
import subprocess
import sys

import pytest

from side_by_side.celery_processes import start_worker
from tests.integration.place import Place
from tests.waiting import wait_until


def start(place: Place, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "--quiet", "-A", "tasks", "worker", *arguments],
        env={**os.environ, **place.environment(**settings)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_sqlite_ledger_on_a_network_file_system_is_refused(private_place: Place) -> None:
    mount = f"server:/home {private_place.home} nfs4 rw 0 0\n"
    (private_place.home / "mounts").write_text(f"/dev/vda / ext4 rw 0 0\n{mount}")
    worker = ["celery", "--quiet", "-A", "tasks", "worker"]
    for command in (worker, ["baozi", "ledger", "upgrade"]):
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.mutated", "ledger_on_the_network", "--", *command],
            env={**os.environ, **private_place.environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (4, 1), done.stderr
        assert "on a network file system (nfs4)" in done.stderr
        assert "PostgreSQL" in done.stderr
    assert not (private_place.home / "ledger.sqlite3").exists()


def test_an_unknown_queue_is_a_usage_error(private_place: Place) -> None:
    done = start(private_place, "-Q", "noodles")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "A worker of this app cannot consume the queue 'noodles'. Its queue is 'baozi'."
    ]


def test_a_wrong_password_is_reported_and_not_retried_endlessly(private_place: Place) -> None:
    url = private_place.node.user_url("baozi", "wrong", private_place.virtual_host)
    done = start(private_place, broker_url=url)
    assert done.returncode == 3
    assert "refuses the user or the password" in done.stderr
    assert "wrong" not in done.stderr.replace("wrong,", "")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_virtual_host_is_reported(private_place: Place) -> None:
    done = start(private_place, broker_url=private_place.url + "-is-not-there")
    assert done.returncode == 3
    assert "no such virtual host" in done.stderr


def test_a_queue_with_other_arguments_is_reported(private_place: Place) -> None:
    private_place.produce("r", "egon", 1)
    done = start(private_place, capacity=3)
    assert done.returncode == 3
    assert "exists with other arguments" in done.stderr


@pytest.mark.parametrize("url", ["sqlite:////proc/ledger.sqlite3", "sqlite:////dev/null"])
def test_a_ledger_that_cannot_be_written_is_reported(private_place: Place, url: str) -> None:
    done = start(private_place, ledger_url=url)
    assert done.returncode == 4
    assert done.stderr.startswith("The ledger cannot be")
    assert len(done.stderr.splitlines()) == 1


def test_a_setting_out_of_range_is_reported(private_place: Place) -> None:
    done = start(private_place, eat_seconds=-1)
    assert done.returncode == 2
    assert "BAOZI_EAT_SECONDS" in done.stderr


def test_a_worker_that_waits_for_a_broker_stops_on_a_signal(private_place: Place) -> None:
    environment = private_place.environment(broker_url="amqp://a:b@127.0.0.1:1/none")
    worker = start_worker(private_place.process_group, "小明", environment, 1, "prefork")
    wait_until(lambda: "Cannot connect" in worker.log.read_text(), "the worker to wait", 30)
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(timeout=20)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b@%h", "The consumer's name must not contain '/'"),
        ("../x@%h", "The consumer's name must not contain '/'"),
        ("a/b", "The consumer's name must not contain '/'"),
        (".hidden@%h", "The consumer's name must not start with '.'"),
        ("..", "The consumer's name must not start with '.'"),
        ("x" * 61, "The consumer's name is over 60 characters long"),
        ("a\nb@%h", "The consumer's name must not contain control characters"),
        ("a\x1b[31m@%h", "The consumer's name must not contain control characters"),
        ("a@b\nc", "The worker's node name must not contain control characters"),
        ("a@" + "包" * 80, "The worker's node name is over 200 bytes long"),
    ],
)
def test_a_node_name_that_cannot_be_a_consumers_is_a_usage_error(
    private_place: Place, name: str, said: str
) -> None:
    done = start(private_place, "-n", name, journal=private_place.home / "journal")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(said)
    assert not (private_place.home / "journal").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--include", "no.such.module", "A module of the app cannot be imported: No module named 'no'."),
        ("--pidfile", "/nowhere/pid", "--pidfile cannot be written: /nowhere."),
        ("--logfile", "/nowhere/log", "The system refuses: No such file or directory: /nowhere/log."),
        ("--pool", "nosuch", "'nosuch' is not one of"),
        ("--pidfile", "{home}/pid", "Seems we're already running?"),
        ("--statedb", "/nowhere/db", "The system refuses: No such file or directory: b'/nowhere/db"),
        ("--uid", "no-such-user", "the worker's options: getpwnam(): name not found: 'no-such-user'. See"),
        ("--exclude-queues", "baozi", "--exclude-queues excludes 'baozi', the only queue of this app."),
    ],
)
def test_an_option_that_celery_cannot_use_is_a_usage_error(
    private_place: Place, option: str, value: str, said: str
) -> None:
    (private_place.home / "pid").write_text(f"{os.getpid()}\n")
    done = start(private_place, option, value.format(home=private_place.home))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_pool_that_is_not_installed_fails_before_celery_imports_the_app() -> None:
    """No code of the project runs, so the README names this exit code."""
    command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "tasks", "worker", "--pool", "eventlet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'eventlet'"


@pytest.mark.parametrize("limit", [40, 60])
def test_too_few_open_files_are_reported(private_place: Place, limit: int) -> None:
    command = f"ulimit -n {limit}; exec {sys.executable} -W ignore -m celery --quiet -A tasks worker -c 4"
    done = subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, **private_place.environment()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"A worker with 4 processes needs 72 open files, and this one may have {limit}."
        " Run `ulimit -n 72` first.\n"
    )
