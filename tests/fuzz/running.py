"""Targets on a broker, a batch of messages for one of them, and the one message of a batch that fails."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from baozi.process_group import ProcessGroup
from tests.fuzz import commands, corpus
from tests.fuzz.broadcasts import Broadcasts, broadcasts
from tests.fuzz.hostile import messages
from tests.fuzz.items import items
from tests.fuzz.letters import Letters
from tests.fuzz.messages import Message, generate, good
from tests.fuzz.remote import REMOTE, Remote
from tests.fuzz.worker import MODES, Fault, Worker
from tests.integration.place import Place
from tests.integration.rabbitmq import Node

#: Who gets the messages: the worker in each mode, its events and remote control, the dead-letter commands,
#: consumers of remote_mp.
BROADCASTS, LETTERS = "broadcasts", "letters"
TARGETS = (*MODES, BROADCASTS, LETTERS, *REMOTE)
Target = Worker | Letters | Remote
#: Seconds without progress after which one message alone is a failure.
_QUIET_ALONE = 15

_virtual_hosts = count()
Say = Callable[[str], None]


@contextmanager
def target(node: Node, name: str) -> Iterator[Target]:
    """Yield the target ``name``, on a virtual host, in a home, with a ledger of its own."""
    virtual_host = f"fuzz-{next(_virtual_hosts)}"
    with TemporaryDirectory(prefix="baozi-fuzz-") as folder, (Path(folder) / "out").open("w") as out:
        home = Path(folder)
        try:
            with ProcessGroup(home / "logs", stdout=out) as process_group:
                place = Place(node, virtual_host, home, process_group)
                made = _made(place, name)
                try:
                    yield made
                finally:
                    made.close()
        finally:
            node.delete_virtual_host(virtual_host)


def _made(place: Place, name: str) -> Target:
    if name in MODES:
        return Worker(place, MODES[name])
    if name == BROADCASTS:
        return Broadcasts(place)
    return Letters(place) if name == LETTERS else Remote(place, name)


def made_for(name: str, seed: int, number: int) -> list[Message]:
    """Return ``number`` messages for the target ``name``, the same for the same ``seed``."""
    strategies = {BROADCASTS: broadcasts, **dict.fromkeys(REMOTE, items)}
    return generate(strategies.get(name, messages), seed, number)


def corpus_of(name: str) -> Path:
    """Return the folder of the messages with which the target ``name`` failed once."""
    folders = {BROADCASTS: corpus.BROADCASTS, **dict.fromkeys(REMOTE, corpus.REMOTE)}
    return folders.get(name, corpus.WORKER)


def take(on: Target, batch: Sequence[Message], with_commands: bool) -> list[Fault]:
    """Have a target take a batch and, if that goes well, the commands what it left."""
    faults = on.take(batch)
    # What is broadcast leaves no dead letters.
    if not faults and with_commands and isinstance(on, Worker) and not isinstance(on, Broadcasts):
        faults = commands.after(on, on.place)
    return faults


@dataclass(frozen=True)
class Failure:
    """A message with which a target fails, and how."""

    target: str
    message: Message
    faults: list[Fault]

    def __str__(self) -> str:
        """Return all that is needed to send it again."""
        what = "\n".join(f"  {fault.what}" for fault in self.faults)
        return f"{self.target}:\n{what}\n{self.message.literal()}"


def failures(node: Node, name: str, batch: Sequence[Message], with_commands: bool) -> list[Failure]:
    """Send the messages of a batch one by one; return those with which the target fails.

    With the commands, which take longer to start than to read a batch, by halves.
    """
    if with_commands or name == LETTERS:
        return _by_halves(node, name, batch)
    found = []
    left = list(batch)
    while left:
        with target(node, name) as on:
            while left:
                message = left.pop(0)
                if faults := on.take([message], _QUIET_ALONE):
                    found.append(Failure(name, message, faults))
                    break
    return found


def _by_halves(node: Node, name: str, batch: Sequence[Message]) -> list[Failure]:
    with target(node, name) as on:
        faults = take(on, batch, with_commands=True)
    if not faults or len(batch) == 1:
        return [Failure(name, message, faults) for message in batch if faults]
    middle = len(batch) // 2
    return _by_halves(node, name, batch[:middle]) + _by_halves(node, name, batch[middle:])


def shrunk(node: Node, failure: Failure, with_commands: bool, seconds: float) -> Failure:
    """Take away from a message what its failure does not need, for so many seconds at the most."""
    deadline = time.monotonic() + seconds
    smaller = True
    while smaller:
        smaller = False
        for message in _smaller(failure.message):
            if time.monotonic() > deadline:
                return failure
            if again := failures(node, failure.target, [message], with_commands):
                failure, smaller = again[0], True
                break
    return failure


def _smaller(message: Message) -> Iterator[Message]:
    """Yield the message without what a valid one has too, then without one part after the other."""
    valid = good()
    usual = dict(valid.headers or [])
    headers = message.headers or []
    needed = [(name, it) for name, it in headers if name in {"task", "id"} or usual.get(name) != it]
    changed = {name: it for name, it in message.properties.items() if valid.properties.get(name) != it}
    without = [
        replace(message, headers=needed) if message.headers else message,
        replace(
            message, properties={**changed, "content_type": "application/json", "content_encoding": "utf-8"}
        ),
        replace(message, properties=changed),
        replace(message, body=valid.body, charset=None, compression=None, times=1, frame=0),
        replace(message, times=1),
        replace(message, frame=0),
    ]
    for place in range(len(headers)) if headers == needed else ():
        without.append(replace(message, headers=headers[:place] + headers[place + 1 :]))
    for name in changed:
        left = {other: it for other, it in message.properties.items() if other != name}
        without.append(replace(message, properties=left))
    yield from (smaller for smaller in without if len(smaller.literal()) < len(message.literal()))


def say(line: str) -> None:
    """Print one line, now."""
    print(line, flush=True)
    sys.stdout.flush()
