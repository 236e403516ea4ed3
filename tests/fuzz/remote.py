"""A real consumer of a remote_mp queue that gets hostile messages, and the account of every one of them."""

import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import count
from typing import Any

import psutil

from tests.fuzz.items import good_item
from tests.fuzz.messages import Message, name_of
from tests.fuzz.wire import Client, Refused
from tests.fuzz.worker import GOOD_EVERY, LONGEST, MEMORY, QUIET, Fault, peak
from tests.integration.place import Place

_QUEUE, _DEAD = "remote_mp.q.q", "remote_mp.dead"
_LOOK_EVERY = 0.1

#: A queue's class, and its bound.
REMOTE = {"queue": ("Queue", 0), "joinable": ("JoinableQueue", 0), "bounded": ("JoinableQueue", 1000)}


class Remote:
    """One consumer on a virtual host of its own, and all messages that were sent to its queue."""

    def __init__(self, place: Place, mode: str) -> None:
        """Start the consumer, and wait until it has got an item of its own."""
        self._place = place
        self._numbers = count()
        kind, maxsize = REMOTE[mode]
        self._said = place.home / "said"
        self._log = place.home / "log"
        with self._said.open("wb") as stdout, self._log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.remote_consumer", kind, str(maxsize)],
                env={**os.environ, **place.environment()},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        deadline = time.monotonic() + 60
        while not self._lines():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "the consumer gets nothing"
            time.sleep(_LOOK_EVERY)
        self.client = Client(place.url)
        self._baseline = peak(psutil.Process(self.process.pid))
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def close(self) -> None:
        """End the consumer, and hang up."""
        self.client.close()
        self.process.kill()
        self.process.wait()

    def _lines(self) -> list[dict[str, Any]]:
        whole, _, _ = self._said.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def take(self, messages: Iterable[Message], quiet: float = QUIET) -> list[Fault]:
        """Send ``messages`` and account for them; return what is wrong, nothing if all is well."""
        self.client.purge(_DEAD)
        before = len(self._lines())
        sent = self._send(messages)
        started = changed = time.monotonic()
        seen = -1
        while True:
            if self.process.poll() is not None:
                words = self._log.read_text(errors="replace").strip().splitlines()[-1:]
                return [Fault(f"the consumer ended with {self.process.returncode}: {words}")]
            lines = self._lines()[before:]
            faults = self._account(sent, lines)
            if not faults:
                break
            now = time.monotonic()
            if len(lines) != seen:
                seen, changed = len(lines), now
            if now - changed > quiet or now - started > LONGEST:
                return faults
            time.sleep(_LOOK_EVERY)
        grown = peak(psutil.Process(self.process.pid)) - self._baseline
        return [Fault(f"the consumer grew by {grown / 1e6:.0f} MB")] if grown > MEMORY else []

    def _send(self, messages: Iterable[Message]) -> dict[int, Message]:
        ordered: list[Message] = []
        for place, message in enumerate(messages):
            ordered += [message, good_item()] if place % GOOD_EVERY == 0 else [message]
        ordered += [good_item()] * 2
        sent = {}
        for message in ordered:
            number = next(self._numbers)
            filled = message.filled(number)
            try:
                self.client.publish("", _QUEUE, filled.head, filled.wire_body, filled.frame)
            except Refused:
                self.refused[message.kind] += 1
            else:
                self.accepted[message.kind] += 1
                sent[number] = filled
        return sent

    def _account(self, sent: dict[int, Message], lines: list[dict[str, Any]]) -> list[Fault]:
        got = Counter(line["got"] for line in lines if isinstance(line.get("got"), str))
        unreadable = sum("unreadable" in line for line in lines)
        faults = [
            Fault("a good item was not got", number)
            for number, message in sent.items()
            if message.kind == "good" and not got[name_of(number)]
        ]
        letters = self.client.all(_DEAD)
        dead = Counter(letter.body for letter in letters)
        if unreadable != len(letters):
            faults.append(Fault(f"{unreadable} messages could not be read, {len(letters)} are put aside"))
        if any(b"baozi-reason" not in letter.headers for letter in letters):
            faults.append(Fault("a message was put aside without a reason"))
        same: dict[bytes, list[int]] = defaultdict(list)
        for number, message in sent.items():
            same[message.wire_body].append(number)
        items = sum("got" in line for line in lines)
        due = 0
        # The broker drops what expires before a consumer has it.
        may_expire = sum(
            _items_in(message.wire_body) for message in sent.values() if "expiration" in message.properties
        )
        for body, numbers in same.items():
            put_aside = dead.pop(body, 0)
            if put_aside > len(numbers):
                faults.append(Fault("a message was put aside twice", numbers[0]))
            due += (len(numbers) - put_aside) * _items_in(body)
        dead.pop(b"[]", None)  # word of what is done, which a message asked to have put on the queue itself
        if dead:
            faults.append(Fault(f"a message was put aside that nobody sent: {next(iter(dead))[:80]!r}"))
        if items < due - may_expire:
            faults.append(Fault(f"{due - items} items were neither got nor put aside"))
        if waiting := self.client.count(_QUEUE):
            faults.append(Fault(f"{waiting} messages are still in the queue"))
        return faults


def _items_in(body: bytes) -> int:
    """How many items a message with this body is, where it can be read; else it must be put aside: one."""
    try:
        items = json.loads(body)
    except (ValueError, RecursionError):
        return 1
    return len(items) if isinstance(items, list) and items else 1
