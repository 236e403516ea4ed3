"""RabbitMQ in a container, where the machine has no ``rabbitmq-server`` but a Docker engine.

The data is in a named volume, which stays when the container is stopped and removed: a folder of the host's
would belong to the container's user, whom the host does not know. ``docker volume rm`` with the container's
name removes it for good.
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

IMAGE = "rabbitmq:4.3-management"

#: Bytes of memory the container may have, and those at which RabbitMQ blocks its publishers: what it reads
#: of itself must stay under what the kernel kills for, with room for what it does not count.
_MEMORY = 1024**3
_WATERMARK = _MEMORY * 6 // 10
#: Seconds: an image's download; a start; a stop, and what the engine needs besides.
_PULL, _START, _STOP, _BESIDES = 600, 60, 30, 15


def fetch_image() -> None:
    """See that the image is there; its download may take ten minutes.

    Raises:
        BrokerNotInstalled: it cannot be had; says why.
    """
    if docker("image", "inspect", IMAGE)[0]:
        return
    done, said = docker("pull", "--quiet", IMAGE, timeout=_PULL)
    if not done:
        raise BrokerNotInstalled(f"The image {IMAGE} cannot be had: {reason(said)}.")


def start_container(folder: Folder, why: str) -> Record:
    """Start the container of ``folder``, published on free ports of 127.0.0.1, and wait for 60 seconds.

    The password goes by a file that only we and the engine read, for a command line is everyone's to see.

    Raises:
        BrokerNotStarted: it has failed, or was not ready in time, and is removed; says why.
    """
    identity = folder.identity()
    record = Record(
        kind="container", mark=identity.name, url="", management_url="", node="rabbit@baozi", why=why
    )
    # Before there is a container, so that `stop` finds what a killed `start` leaves.
    folder.keep(record)
    docker("rm", "--force", identity.name)
    try:
        _run(folder, identity)
        record = _with_ports(record, identity)
        record = record.model_copy(update={"version": _wait(record), "ready": True})
    except BaseException:
        docker("rm", "--force", identity.name)
        folder.forget()
        raise
    folder.keep(record)
    return record


def stop_container(record: Record, at_once: bool = False) -> bool:
    """Let the broker stop well for up to 30 seconds, then remove the container; return if it was there.

    Args:
        record: its start.
        at_once: whether it is removed without being stopped first.

    Raises:
        BrokerNotStopped: the engine did not do it; says why.
    """
    if inspected(record.mark, "{{.Id}}") is None and engine.answers():
        return False
    if not at_once:
        docker("stop", "-t", str(_STOP), record.mark, timeout=_STOP + _BESIDES)
    done, said = docker("rm", "--force", record.mark)
    if not done:
        raise BrokerNotStopped(f"The container {record.mark} was not removed: {reason(said)}.")
    return True


def kill_container(record: Record) -> None:
    """``kill -9`` what runs in the container; it stays, with its data.

    Raises:
        BrokerNotStopped: the engine did not do it; says why.
    """
    done, said = docker("kill", record.mark)
    if not done:
        raise BrokerNotStopped(f"The container {record.mark} was not killed: {reason(said)}.")


def restart_container(folder: Folder, record: Record) -> Record:
    """Start a container that was killed, on its data; return the record with the ports that it has now.

    Raises:
        BrokerNotStarted: it has failed, or was not ready in time; says why.
    """
    done, said = engine.start(record.mark, timeout=_START)
    if not done:
        raise BrokerNotStarted(f"The container did not start again: {reason(said)}.")
    record = _with_ports(record, folder.identity())
    _wait(record)
    folder.keep(record)
    return record


def remove_data(record: Record) -> None:
    """Remove the data of a container that was stopped, for good; what cannot be removed stays."""
    docker("volume", "rm", "--force", record.mark)


def runs(record: Record) -> bool:
    """Whether the container on record is ready and has not ended since."""
    return record.ready and inspected(record.mark, "{{.State.Running}}") == "true"


def _run(folder: Folder, identity: Identity) -> None:
    settings = folder.write(
        "container.env",
        "RABBITMQ_DEFAULT_USER=baozi\n"
        f"RABBITMQ_DEFAULT_PASS={identity.password}\n"
        f"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-rabbit vm_memory_high_watermark {{absolute,{_WATERMARK}}}\n",
    )
    done, said = docker(
        *("create", "--name", identity.name),
        # The node's name, and with it the data's, has the host's in it.
        *("--hostname", "baozi", "--label", f"baozi.folder={folder.path}"),
        *("--env-file", str(settings), "--memory", str(_MEMORY), "--stop-timeout", str(_STOP)),
        *("--volume", f"{identity.name}:/var/lib/rabbitmq"),
        *("--publish", "127.0.0.1::5672", "--publish", "127.0.0.1::15672", IMAGE),
        timeout=_START,
    )
    settings.unlink()
    if done:
        done, said = engine.start(identity.name, timeout=_START)
    if not done:
        raise BrokerNotStarted(f"The container did not start: {reason(said)}.")


def _with_ports(record: Record, identity: Identity) -> Record:
    ports = json.loads(inspected(identity.name, "{{json .NetworkSettings.Ports}}") or "{}")
    try:
        amqp, management = (ports[f"{port}/tcp"][0]["HostPort"] for port in (5672, 15672))
    except (KeyError, TypeError, IndexError):  # it ended at once, and with it its ports
        raise _failed(identity.name) from None
    url = f"amqp://baozi:{identity.password}@127.0.0.1:{amqp}/%2F"
    return record.model_copy(update={"url": url, "management_url": f"http://127.0.0.1:{management}"})


def _wait(record: Record) -> str | None:
    """Wait until the broker answers; it opens its AMQP port last."""
    deadline = time.monotonic() + _START
    while True:
        try:
            return check_broker_answers(record.url, 2)
        except BrokerAway:
            if inspected(record.mark, "{{.State.Running}}") != "true":
                raise _failed(record.mark) from None
            if time.monotonic() > deadline:
                raise _failed(record.mark, f" within {_START} seconds") from None
        wait_until(lambda: False, 0.2)


def _failed(name: str, when: str = "") -> BrokerNotStarted:
    return BrokerNotStarted(f"The broker did not start{when}: {reason(docker('logs', name)[1])}.")
