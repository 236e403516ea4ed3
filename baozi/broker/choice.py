"""Chooses which broker to use or start, and prints the choice in one line."""

import sys
from collections.abc import Callable

from baozi.broker import container, engine, install, private_node
from baozi.broker.address import Broker
from baozi.broker.state import Folder, Record
from baozi.broker_url import MEMORY, nodes
from baozi.errors import BrokerNotInstalled, NoBroker
from baozi.language import Sentence, listed, translated
from baozi.settings import settings

_MEMORY_PROMISES = Sentence(
    "no other process sees its messages, they are lost when this process ends, and nothing is confirmed. For"
    " a real broker install rabbitmq-server or Docker and run `baozi broker start`, or set BAOZI_BROKER_URL"
)


def find() -> Broker:
    """Return the broker to use: that of BAOZI_BROKER_URL, else the one that ``baozi broker start`` started.

    It does not connect to the broker, which may not answer.

    Raises:
        NoBroker: there is none. The error says how to get one.
    """
    named = _named()
    if named is not None:
        return named
    record = _folder().record()
    if record is None or not _runs(record):
        folder, reason = settings().home.absolute(), settings().home_reason
        raise NoBroker(
            "{problem} It was looked for in {folder} ({reason}).",
            problem=NoBroker(),
            folder=folder,
            reason=reason,
        )
    return _broker(record, Sentence("`baozi broker start` started it: {why}", why=record.why))


def start(say: Callable[[str], None] | None = None) -> Broker:
    """Find or start a broker: the first of the following that is available.

    BAOZI_BROKER_URL; a private node of the machine's ``rabbitmq-server``; a container; a private node of the
    distribution's package, which is installed first; kombu's in-memory transport.

    Args:
        say: called with each line about the choice; by default the lines go to stderr.

    Raises:
        BrokerNotStarted: the chosen broker failed. The error has the reason from its log. No other broker is
            tried, because the failure should be repaired, not hidden.
    """
    say = say or _to_stderr
    broker = _named()
    if broker is None:
        folder = _folder()
        with folder.lock():
            broker = _found_or_started(folder, say)
    else:
        say(Sentence("Broker: {why}.", why=broker.why))
    return broker


def stop(at_once: bool = False) -> bool:
    """Stop all processes of the broker that ``start`` started in this folder. Its data stays.

    Args:
        at_once: whether to kill it at once instead of giving it 30 seconds to end.

    Returns:
        Whether there was a broker to stop. The broker of BAOZI_BROKER_URL is never stopped.

    Raises:
        BrokerNotStopped: some of its processes still run.
    """
    folder = _folder()
    if folder.record() is None:
        return False
    with folder.lock():
        return _clear(folder, at_once)


def _found_or_started(folder: Folder, say: Callable[[str], None]) -> Broker:
    record = folder.record()
    if record is not None and _runs(record):
        broker = _broker(record, Sentence("a broker is already running: {why}", why=record.why))
        say(Sentence("Broker: {why}.", why=broker.why))
        return broker
    _clear(folder)
    lacks: list[str] = []
    for option in (_private_node, _container, _package):
        outcome = option(folder, say, lacks)
        if isinstance(outcome, Record):
            return _broker(outcome, outcome.why)
        lacks.append(outcome)
    why = Sentence(
        "kombu's in-memory transport ({reasons}): {promises}",
        reasons=listed(lacks),
        promises=_MEMORY_PROMISES,
    )
    # It is not recorded, because another process could not use it.
    say(Sentence("Broker: {why}.", why=why))
    return Broker(kind="memory", url="memory://", why=why)


def _private_node(folder: Folder, say: Callable[[str], None], _lacks: list[str]) -> Record | str:
    program = private_node.server()
    if program is None:
        return Sentence("no rabbitmq-server is installed")
    why = Sentence("a private RabbitMQ node, run from {program}", program=program)
    say(Sentence("Broker: {why}.", why=why))
    return private_node.start_node(folder, program, why)


def _container(folder: Folder, say: Callable[[str], None], lacks: list[str]) -> Record | str:
    if not engine.answers():
        return Sentence("no Docker engine answers")
    why = Sentence(
        "a container of {image} ({reasons}, but a Docker engine answers)",
        image=container.IMAGE,
        reasons=listed(lacks),
    )
    say(Sentence("Broker: {why}.", why=why))
    try:
        container.fetch_image()
    except BrokerNotInstalled as error:
        return Sentence("the container's image cannot be fetched ({problem})", problem=str(error).rstrip("."))
    return container.start_container(folder, why)


def _package(folder: Folder, say: Callable[[str], None], lacks: list[str]) -> Record | str:
    if not install.can_install():
        return Sentence("it can be installed only by root, with apt")
    say(Sentence("Installing the distribution's rabbitmq-server ({reasons}).", reasons=listed(lacks)))
    try:
        install.install()
    except BrokerNotInstalled as error:
        return Sentence("apt did not install it ({problem})", problem=str(error).rstrip("."))
    return _private_node(folder, say, lacks)


def _named() -> Broker | None:
    secret = settings().broker_url
    if not secret:
        return None
    url = secret.get_secret_value()
    if nodes(url)[0].scheme == MEMORY:
        why = Sentence(
            "kombu's in-memory transport (BAOZI_BROKER_URL names it): {promises}", promises=_MEMORY_PROMISES
        )
        return Broker(kind="memory", url=url, why=why)
    return Broker(kind="url", url=url, why=Sentence("BAOZI_BROKER_URL names it"))


def _clear(folder: Folder, at_once: bool = False) -> bool:
    """Stop the recorded broker and delete its record; return whether any part of it was running."""
    record = folder.record()
    if record is None:
        return False
    stop_it = private_node.stop_node if record.kind == "private" else container.stop_container
    stopped = stop_it(record, at_once)
    folder.forget()
    return stopped


def _runs(record: Record) -> bool:
    return private_node.runs(record) if record.kind == "private" else container.runs(record)


def _broker(record: Record, why: str) -> Broker:
    return Broker(record.kind, record.url, record.management_url, record.version, record.node, why)


def _folder() -> Folder:
    return Folder(settings().home / "broker")


def _to_stderr(line: str) -> None:
    print(translated(line), file=sys.stderr, flush=True)
