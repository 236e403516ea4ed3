from collections.abc import Iterator
from pathlib import Path

import pytest

from baozi.broker import container, engine, find, install, private_node, start, stop
from baozi.broker.state import Folder, Record
from baozi.errors import BrokerNotInstalled, BrokerNotStarted, NoBroker
from baozi.settings import settings

SERVER = Path("/opt/rabbitmq/sbin/rabbitmq-server")


class Machine:
    """A pretended machine: what it has, and what was done on it."""

    def __init__(self) -> None:
        self.server: Path | None = None
        self.docker = False
        self.image = True
        self.apt: str | None = None
        self.running: set[str] = set()
        self.said: list[str] = []

    def install(self) -> None:
        if self.apt != "works":
            raise BrokerNotInstalled("No network.")
        self.server = SERVER

    def fetch_image(self) -> None:
        if not self.image:
            raise BrokerNotInstalled("No registry answers.")

    def start_node(self, folder: Folder, _program: Path, why: str) -> Record:
        return self._start("private", folder, why)

    def start_container(self, folder: Folder, why: str) -> Record:
        return self._start("container", folder, why)

    def stop(self, record: Record, _at_once: bool = False) -> bool:
        self.running.discard(record.mark)
        return True

    def runs(self, record: Record) -> bool:
        return record.ready and record.mark in self.running

    def _start(self, kind: str, folder: Folder, why: str) -> Record:
        facts = {"kind": kind, "mark": kind, "url": f"amqp://{kind}", "management_url": "", "node": "n"}
        record = Record.model_validate({**facts, "why": why, "ready": True})
        self.running.add(record.mark)
        folder.keep(record)
        return record


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    machine = Machine()
    monkeypatch.setenv("BAOZI_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BAOZI_BROKER_URL", raising=False)
    monkeypatch.setattr(private_node, "server", lambda: machine.server)
    monkeypatch.setattr(private_node, "start_node", machine.start_node)
    monkeypatch.setattr(private_node, "stop_node", machine.stop)
    monkeypatch.setattr(private_node, "runs", machine.runs)
    monkeypatch.setattr(engine, "answers", lambda: machine.docker)
    monkeypatch.setattr(container, "fetch_image", machine.fetch_image)
    monkeypatch.setattr(container, "start_container", machine.start_container)
    monkeypatch.setattr(container, "stop_container", machine.stop)
    monkeypatch.setattr(container, "runs", machine.runs)
    monkeypatch.setattr(install, "can_install", lambda: machine.apt is not None)
    monkeypatch.setattr(install, "install", machine.install)
    settings.cache_clear()
    yield machine
    settings.cache_clear()


def test_a_named_broker_comes_before_all(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAOZI_BROKER_URL", "amqp://u:secret@h//")
    machine.server, machine.docker = SERVER, True
    broker = start(machine.said.append)
    assert (broker.kind, broker.url) == ("url", "amqp://u:secret@h//")
    assert machine.said == ["Broker: BAOZI_BROKER_URL names it."]
    assert find() == broker
    assert not machine.running


def test_an_empty_name_is_none(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAOZI_BROKER_URL", "")
    machine.server = SERVER
    assert start(machine.said.append).kind == "private"


def test_memory_is_used_if_it_is_named_and_prints_what_it_does_not_guarantee(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAOZI_BROKER_URL", "memory://")
    machine.server = SERVER
    assert start(machine.said.append).kind == "memory"
    assert "lost when this process ends" in machine.said[0]
    assert "baozi broker start" in machine.said[0]


def test_the_machines_server_comes_before_a_container(machine: Machine) -> None:
    machine.server, machine.docker, machine.apt = SERVER, True, "works"
    assert start(machine.said.append).kind == "private"
    assert machine.said == [f"Broker: a private RabbitMQ node, run from {SERVER}."]


def test_a_container_comes_before_an_installation(machine: Machine) -> None:
    machine.docker, machine.apt = True, "works"
    assert start(machine.said.append).kind == "container"
    assert len(machine.said) == 1


@pytest.mark.parametrize("docker", [False, True])
def test_without_a_container_engine_the_package_is_installed(machine: Machine, docker: bool) -> None:
    machine.docker, machine.image, machine.apt = docker, False, "works"
    assert start(machine.said.append).kind == "private"
    assert machine.said[-2].startswith("Installing the distribution's rabbitmq-server")


@pytest.mark.parametrize(("apt", "told"), [(None, "only by root, with apt"), ("broken", "No network")])
def test_without_any_broker_memory_is_used_and_the_reason_is_printed(
    machine: Machine, apt: str | None, told: str
) -> None:
    machine.apt = apt
    broker = start(machine.said.append)
    assert (broker.kind, broker.url) == ("memory", "memory://")
    assert told in machine.said[-1]
    assert "lost when this process ends" in machine.said[-1]
    with pytest.raises(NoBroker):
        find()


def test_a_chosen_broker_that_fails_is_not_replaced_unseen(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Record:
        raise BrokerNotStarted

    machine.server, machine.docker = SERVER, True
    monkeypatch.setattr(private_node, "start_node", fail)
    with pytest.raises(BrokerNotStarted):
        start(machine.said.append)
    assert not machine.running


def test_a_running_broker_is_found_and_not_started_again(machine: Machine) -> None:
    machine.docker = True
    started = start(machine.said.append)
    machine.server = SERVER
    assert start(machine.said.append).url == find().url == started.url
    assert "a broker is already running" in machine.said[-1]
    assert machine.running == {"container"}


def test_a_stopped_broker_is_not_found(machine: Machine) -> None:
    machine.server = SERVER
    start(machine.said.append)
    assert stop()
    assert not machine.running
    with pytest.raises(NoBroker):
        find()
    assert not stop()


def test_a_broker_that_died_is_started_again(machine: Machine) -> None:
    machine.server = SERVER
    start(machine.said.append)
    machine.running.clear()
    with pytest.raises(NoBroker):
        find()
    assert start(machine.said.append).kind == "private"
    assert machine.running == {"private"}


def test_a_broker_that_is_only_starting_is_not_found(machine: Machine) -> None:
    machine.server = SERVER
    start(machine.said.append)
    folder = Folder(settings().home / "broker")
    record = folder.record()
    assert record is not None
    folder.keep(record.model_copy(update={"ready": False}))
    with pytest.raises(NoBroker):
        find()
