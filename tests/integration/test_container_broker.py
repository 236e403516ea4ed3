import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from amqp.exceptions import AccessRefused
from kombu import Connection

from baozi.broker import container, find, start, stop
from baozi.errors import BrokerNotStarted, NoBroker
from baozi.settings import settings
from tests.integration.broker_command import log_in, refused_by_management, shows_in_a_command_line
from tests.requirements import need_engine


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home on a machine that has a Docker engine and no ``rabbitmq-server``."""
    need_engine()
    home = Path(tempfile.mkdtemp(prefix="baozi-"))
    monkeypatch.setenv("BAOZI_HOME", str(home))
    monkeypatch.delenv("BAOZI_BROKER_URL", raising=False)
    monkeypatch.setattr("baozi.broker.private_node.server", lambda: None)
    settings.cache_clear()
    yield home
    stop()
    settings.cache_clear()
    if (home / "broker" / "identity.json").exists():
        name = json.loads((home / "broker" / "identity.json").read_text())["name"]
        assert name not in docker("ps", "--all")
        subprocess.run(["docker", "volume", "rm", name], capture_output=True, timeout=60, check=False)
    shutil.rmtree(home)


def name_of(home: Path) -> str:
    return str(json.loads((home / "broker" / "broker.json").read_text())["mark"])


def test_a_container_is_started_found_and_stopped(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broker = start()
    assert broker.kind == "container"
    assert capsys.readouterr().err.startswith("Broker: a container of rabbitmq:4.3-management (no rabbitmq")
    assert find().url == start().url == broker.url
    log_in(broker.url)
    name = name_of(home)
    assert stop()
    assert name not in docker("ps", "--all")
    with pytest.raises(NoBroker):
        find()
    assert not stop()


def test_the_container_listens_on_loopback_only_and_has_no_guest_user(home: Path) -> None:
    broker = start()
    published = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", name_of(home)))
    hosts = {binding["HostIp"] for bindings in published.values() for binding in bindings or []}
    assert hosts == {"127.0.0.1"}
    password = log_in(broker.url)
    with pytest.raises(AccessRefused):
        log_in(broker.url.replace(f"baozi:{password}@", "guest:guest@"))
    assert refused_by_management(str(broker.management_url), "guest", "guest")
    assert not refused_by_management(str(broker.management_url), "baozi", password)
    assert password not in repr(broker)
    assert not shows_in_a_command_line(password)


@pytest.mark.usefixtures("home")
def test_what_is_in_a_queue_survives_a_stop_and_a_start() -> None:
    with Connection(start().url) as connection:
        queue = connection.SimpleQueue("kept", queue_args={"x-queue-type": "quorum"})
        queue.put("a baozi", delivery_mode=2)
        queue.close()
    assert stop()
    with Connection(start().url) as connection:
        queue = connection.SimpleQueue("kept", queue_args={"x-queue-type": "quorum"})
        assert queue.get(timeout=30).payload == "a baozi"
        queue.close()


def test_a_container_that_was_killed_is_not_found_and_is_started_again(home: Path) -> None:
    start()
    docker("kill", name_of(home))
    with pytest.raises(NoBroker):
        find()
    log_in(start().url)


def test_a_container_that_fails_says_why_and_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "_WATERMARK", "}")  # no Erlang term, so that the node ends at once
    with pytest.raises(BrokerNotStarted, match="did not start: "):
        start()
    assert not (home / "broker" / "broker.json").exists()
    with pytest.raises(NoBroker):
        find()
