"""Runs RabbitMQ in a container, if the machine has a Docker engine but no ``rabbitmq-server``.

The data is in a named volume, which stays when the container is removed. A folder of the host would belong to
the container's user, which does not exist on the host. ``docker volume rm`` with the container's name deletes
the data.
"""

import json
import time

from baozi.broker import engine
from baozi.broker.engine import docker, inspected
from baozi.broker.failure import reason
from baozi.broker.processes import wait_until
from baozi.broker.readiness import check_broker_answers
from baozi.broker.state import Folder, Identity, Record
from baozi.errors import BrokerAway, BrokerNotInstalled, BrokerNotStarted, BrokerNotStopped
from baozi.language import Sentence

IMAGE = "rabbitmq:4.3-management"

#: A file of the image's folder for further configuration.
_CONFIGURATION = "/etc/rabbitmq/conf.d/50-baozi.conf"
#: Bytes of the container's memory limit, and those at which RabbitMQ blocks its publishers. The kernel kills
#: the container at the first; RabbitMQ does not count all of its memory, so the second is lower.
_MEMORY = 1024**3
_WATERMARK = _MEMORY * 6 // 10
#: Seconds for the image's download, for a start, for a stop, and for the engine in addition.
_PULL, _START, _STOP, _BESIDES = 600, 60, 30, 15


def fetch_image() -> None:
    """Download the image if it is missing, which may take ten minutes.

    Raises:
        BrokerNotInstalled: the download failed. The error says why.
    """
    if docker("image", "inspect", IMAGE)[0]:
        return
    done, said = docker("pull", "--quiet", IMAGE, timeout=_PULL)
    if not done:
        raise BrokerNotInstalled(
            "The image {image} cannot be fetched: {said}.", image=IMAGE, said=reason(said)
        )


def start_container(folder: Folder, why: str, configuration: str = "") -> Record:
    """Start the container of ``folder`` on free ports of 127.0.0.1. Wait at most 60 seconds.

    The password is passed in a private file, because every user can read command lines.

    Args:
        folder: where the broker's name, password and record are kept.
        why: the reason for the choice of a container.
        configuration: lines of ``rabbitmq.conf``, in addition to those of the image.

    Raises:
        BrokerNotStarted: it failed or was not ready in time, and was removed. The error says why.
    """
    identity = folder.identity()
    record = Record(
        kind="container", mark=identity.name, url="", management_url="", node="rabbit@baozi", why=why
    )
    # Before there is a container, so that `stop` finds what a killed `start` leaves.
    folder.keep(record)
    docker("rm", "--force", identity.name)
    try:
        _run(folder, identity, configuration)
        record = _with_ports(record, identity)
        record = record.model_copy(update={"version": _wait(record), "ready": True})
    except BaseException:
        docker("rm", "--force", identity.name)
        folder.forget()
        raise
    folder.keep(record)
    return record


def stop_container(record: Record, at_once: bool = False) -> bool:
    """Stop the broker for up to 30 seconds, then remove the container. Return whether it existed.

    Args:
        record: the record of its start.
        at_once: whether to remove it without stopping it first.

    Raises:
        BrokerNotStopped: the engine failed. The error says why.
    """
    if inspected(record.mark, "{{.Id}}") is None and engine.answers():
        return False
    if not at_once:
        docker("stop", "-t", str(_STOP), record.mark, timeout=_STOP + _BESIDES)
    done, said = docker("rm", "--force", record.mark)
    if not done:
        raise BrokerNotStopped(
            "The container {mark} was not removed: {said}.", mark=record.mark, said=reason(said)
        )
    return True


def kill_container(record: Record) -> None:
    """Kill the container's processes with SIGKILL. The container and its data stay.

    Raises:
        BrokerNotStopped: the engine failed. The error says why.
    """
    done, said = docker("kill", record.mark)
    if not done:
        raise BrokerNotStopped(
            "The container {mark} was not killed: {said}.", mark=record.mark, said=reason(said)
        )


def restart_container(folder: Folder, record: Record) -> Record:
    """Start a killed container again with its data; return the record with its new ports.

    Raises:
        BrokerNotStarted: it failed or was not ready in time. The error says why.
    """
    done, said = engine.start(record.mark, timeout=_START)
    if not done:
        raise BrokerNotStarted("The container did not start again: {said}.", said=reason(said))
    record = _with_ports(record, folder.identity())
    _wait(record)
    folder.keep(record)
    return record


def remove_data(record: Record) -> None:
    """Delete the data of a stopped container. Data that cannot be deleted stays."""
    docker("volume", "rm", "--force", record.mark)


def runs(record: Record) -> bool:
    """Return whether the recorded container is ready and still runs."""
    return record.ready and inspected(record.mark, "{{.State.Running}}") == "true"


def _run(folder: Folder, identity: Identity, configuration: str) -> None:
    settings = folder.write(
        "container.env",
        "RABBITMQ_DEFAULT_USER=baozi\n"
        f"RABBITMQ_DEFAULT_PASS={identity.password}\n"
        f"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-rabbit vm_memory_high_watermark {{absolute,{_WATERMARK}}}\n",
    )
    done, said = docker(
        *("create", "--name", identity.name),
        # The names of the node and of its data contain the host's name.
        *("--hostname", "baozi", "--label", f"baozi.folder={folder.path}"),
        *("--env-file", str(settings), "--memory", str(_MEMORY), "--stop-timeout", str(_STOP)),
        *("--volume", f"{identity.name}:/var/lib/rabbitmq"),
        *("--publish", "127.0.0.1::5672", "--publish", "127.0.0.1::15672", IMAGE),
        timeout=_START,
    )
    settings.unlink()
    if done and configuration:
        done, said = _configure(folder, identity, configuration)
    if done:
        done, said = engine.start(identity.name, timeout=_START)
    if not done:
        raise BrokerNotStarted("The container did not start: {said}.", said=reason(said))


def _configure(folder: Folder, identity: Identity, configuration: str) -> tuple[bool, str]:
    """Copy ``configuration`` into the container. A mount would need a path of the engine's machine."""
    file = folder.write("container.conf", configuration)
    file.chmod(0o644)  # the container's user reads it
    return docker("cp", str(file), f"{identity.name}:{_CONFIGURATION}")


def _with_ports(record: Record, identity: Identity) -> Record:
    ports = json.loads(inspected(identity.name, "{{json .NetworkSettings.Ports}}") or "{}")
    try:
        amqp, management = (ports[f"{port}/tcp"][0]["HostPort"] for port in (5672, 15672))
    except (KeyError, TypeError, IndexError):  # it ended at once and has no ports
        raise _failed(identity.name) from None
    url = f"amqp://baozi:{identity.password}@127.0.0.1:{amqp}/%2F"
    return record.model_copy(update={"url": url, "management_url": f"http://127.0.0.1:{management}"})


def _wait(record: Record) -> str | None:
    """Wait until the broker answers on its AMQP port, which it opens last."""
    deadline = time.monotonic() + _START
    while True:
        try:
            return check_broker_answers(record.url, 2)
        except BrokerAway:
            if inspected(record.mark, "{{.State.Running}}") != "true":
                raise _failed(record.mark) from None
            if time.monotonic() > deadline:
                raise _failed(record.mark, Sentence(" within {seconds} seconds", seconds=_START)) from None
        wait_until(lambda: False, 0.2)


def _failed(name: str, when: str = "") -> BrokerNotStarted:
    return BrokerNotStarted(
        "The broker did not start{when}: {log}.", when=when, log=reason(docker("logs", name)[1])
    )
