import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from amqp.exceptions import AccessRefused
from kombu import Connection

from baozi.broker import private_node
from baozi.broker.node_files import Ports
from baozi.broker.state import Folder
from tests.integration.broker_command import (
    Home,
    log_in,
    refused_by_management,
    shows_in_a_command_line,
    unprivileged,
)
from tests.requirements import need
from tests.waiting import wait_until

LOOPBACK = {"127.0.0.1", "::1"}


@pytest.fixture
def home() -> Iterator[Home]:
    """A folder with a Chinese name and a space, whose broker an unprivileged user starts and owns."""
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    user = unprivileged()
    need(user is not None, "nobody but root may run this Python")
    assert user is not None
    above = Path(tempfile.mkdtemp(prefix="baozi-"))
    home = Home(above / "包 子", user)
    home.give(above)
    yield home
    home.run("stop")
    left = home.processes()
    shutil.rmtree(above)
    assert not left


def test_an_unprivileged_user_starts_finds_and_stops_a_node(home: Home) -> None:
    started = home.run("start", "--json")
    assert started.code == 0, started.err
    assert started.err.count("\n") == 1
    assert started.err.startswith("Broker: a private RabbitMQ node")
    facts = home.status()
    assert facts["kind"] == "private"
    assert facts["version"]
    assert (facts["home"], facts["home_reason"]) == (str(home.path), "BAOZI_HOME names it")
    again = home.run("start", "--json")
    assert again.json["url"] == facts["url"]
    assert "a broker is already running" in again.err
    stopped = home.run("stop")
    assert (stopped.code, stopped.out) == (0, "Stopped.\n")
    assert home.processes() == []
    gone = home.run("status")
    assert (gone.code, gone.out) == (3, "")
    assert gone.err.startswith("No broker is known; start one")
    assert f"It was looked for in {home.path} (BAOZI_HOME names it)." in gone.err
    assert home.run("stop").out == "There was no broker to stop that `baozi broker start` had started.\n"


def test_every_port_listens_on_loopback_only(home: Home) -> None:
    home.start()
    processes = home.processes()
    assert {"beam.smp", "epmd"} <= set(home.programs())
    listening = [
        one.laddr
        for process in processes
        for one in process.net_connections()
        if one.status == psutil.CONN_LISTEN
    ]
    assert len({address.port for address in listening}) == 4  # AMQP, management, distribution, epmd
    assert {address.ip for address in listening} <= LOOPBACK
    assert 4369 not in {address.port for address in listening}


def test_there_is_no_guest_and_the_password_stays_out_of_sight(home: Home) -> None:
    outputs = [
        home.run(*words) for words in (("start",), ("start", "--json"), ("status",), ("status", "--json"))
    ]
    url = home.url()
    password = log_in(url)
    assert not shows_in_a_command_line(password)
    with pytest.raises(AccessRefused):
        log_in(url.replace(f"baozi:{password}@", "guest:guest@"))
    assert refused_by_management(home.status()["management_url"], "guest", "guest")
    assert not refused_by_management(home.status()["management_url"], "baozi", password)
    outputs.append(home.run("stop"))
    assert not any(password in output.out + output.err for output in outputs)
    readable = [path for path in home.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o004]
    assert home.folder.stat().st_mode & 0o077 == 0
    assert not any(password.encode() in path.read_bytes() for path in readable)


def test_the_output_of_broker_env_can_be_evaluated_by_a_shell(home: Home) -> None:
    home.start()
    assert home.run("env").out == f"export BAOZI_BROKER_URL={home.url()}\n"


def test_two_nodes_live_side_by_side(home: Home) -> None:
    other = Home(home.path.parent / "other", home.user)
    try:
        one, two = home.start(), other.start()
        assert one["node"] != two["node"]
        assert one["url"] != two["url"]
        log_in(home.url())
        log_in(other.url())
        other.run("stop")
        assert other.processes() == []
        log_in(home.url())
    finally:
        other.run("stop")


def test_what_is_in_a_queue_survives_a_stop_and_a_start(home: Home) -> None:
    home.start()
    with Connection(home.url()) as connection:
        queue = connection.SimpleQueue("kept", queue_args={"x-queue-type": "quorum"})
        queue.put("a baozi", delivery_mode=2)
        queue.close()
    before = home.status()["node"]
    home.run("stop")
    assert home.start()["node"] == before
    with Connection(home.url()) as connection:
        queue = connection.SimpleQueue("kept", queue_args={"x-queue-type": "quorum"})
        assert queue.get(timeout=30).payload == "a baozi"
        queue.close()


def test_a_node_that_was_killed_is_not_found_and_is_started_again(home: Home) -> None:
    home.start()
    node = next(process for process in home.processes() if process.name() == "beam.smp")
    node.kill()
    wait_until(lambda: "beam.smp" not in home.programs(), "the killed node to be gone")
    assert home.run("status").code == 3
    home.start()
    assert home.programs().count("epmd") == 1


def test_a_broker_whose_start_was_killed_is_stopped(home: Home) -> None:
    with home.begin("start") as starting:
        home.wait_for_a("beam.smp")
        starting.kill()
    assert home.run("status").code == 3
    assert home.run("stop").out == "Stopped.\n"
    assert home.processes() == []


def test_of_two_starts_at_once_one_starts_and_the_other_finds(home: Home) -> None:
    commands = [home.begin("start", "--json") for _ in range(2)]
    outputs = [command.communicate(timeout=120) for command in commands]
    assert sorted("a broker is already running" in err for _, err in outputs) == [False, True]
    assert home.programs().count("beam.smp") == 1


def test_a_node_that_fails_says_its_logs_reason_and_leaves_nothing(home: Home) -> None:
    mine = home.folder / "conf.d" / "90-mine.conf"
    mine.parent.mkdir(parents=True)
    mine.write_text("nonsense = yes\n")
    home.give(home.path, home.folder, mine.parent)
    failed = home.run("start", timeout=65)
    assert (failed.code, failed.out) == (3, "")
    assert "there is no setting with that name" in failed.err.splitlines()[-1]
    assert "Traceback" not in failed.err
    assert home.processes() == []
    assert home.run("status").code == 3
    mine.unlink()
    home.start()


def test_a_home_that_is_a_file_is_one_sentence(home: Home) -> None:
    home.path.write_text("")
    failed = home.run("start")
    assert (failed.code, failed.out) == (3, "")
    assert failed.err.endswith("cannot be used: Not a directory.\n")
    assert home.run("status").code == 3
    assert home.run("stop").code == 0


def test_a_port_that_was_taken_meanwhile_is_worth_another_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = private_node.server()
    need(program is not None, "this machine has no rabbitmq-server")
    assert program is not None
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = Ports.free
        choices = [dataclasses.replace(free(), distribution=other.getsockname()[1]), free()]
        monkeypatch.setattr(Ports, "free", lambda: choices.pop(0))
        folder = Folder(tmp_path)
        record = private_node.start_node(folder, program, "a test")
        try:
            assert not choices
            log_in(record.url)
        finally:
            assert private_node.stop_node(record)


ODD_NAMES = ["o'brien", 'a "b', "$HOME`id`", "a\\b", "a\nb", "%s %d", "*;&|<>(){}[]!#", " ~,:=@^ "]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_node_starts_in_a_folder_of_any_name_and_keeps_what_it_has(home: Home, name: str) -> None:
    odd = Home(home.path.parent / name / "home", home.user)
    try:
        odd.start()
        with Connection(odd.url()) as connection:
            queue = connection.SimpleQueue("kept", queue_args={"x-queue-type": "quorum"})
            queue.put("a baozi", delivery_mode=2)
            queue.close()
        odd.run("stop")
        odd.start()
        with Connection(odd.url()) as connection:
            queue = connection.SimpleQueue("kept", queue_args={"x-queue-type": "quorum"})
            assert queue.get(timeout=30).payload == "a baozi"
            queue.close()
        assert odd.processes()
    finally:
        odd.run("stop")


@pytest.mark.parametrize("limit", [40, 80, 200])
def test_the_error_names_too_few_open_files_as_the_reason(tmp_path: Path, limit: int) -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    command = f"ulimit -n {limit}; exec {sys.executable} -m baozi broker start"
    environment = {**os.environ, "BAOZI_HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        f"The broker did not start: it needs 512 open files, and this process may have {limit}."
        " Run `ulimit -n 512` first."
    )
