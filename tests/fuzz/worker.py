"""A real worker that gets hostile messages, and the account of every one of them.

A message that the broker has accepted must be eaten, which the ledger shows, or be in the dead letters with a
reason: one of the two, and once. Good messages stand between the hostile ones and behind them. All must be
eaten. Then as many tasks as the pool has slots must run at once, so that no slot is lost.
"""

import json
import re
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import psutil
from celery import Celery

from baozi.process_group import StartedProcess
from side_by_side.celery_processes import start_worker
from tests.fuzz.messages import Message, good, good_order, name_of, revoked_id, terminated_id
from tests.fuzz.wire import Client, Got, Refused, first_table
from tests.integration.place import Place

#: Seconds in which a batch that makes no progress counts as stuck; and of the same in all.
QUIET, LONGEST = 30, 150
#: Bytes by which a process of the worker may grow above what it has at its start.
MEMORY = 400_000_000
#: How often a message is delivered before the broker itself puts it to the dead letters.
DELIVERY_LIMIT = 2
#: Every so many-th message is a good one.
GOOD_EVERY = 6
#: Seconds between two looks at the counts, and between two at all dead letters.
_LOOK_EVERY, _READ_EVERY = 0.1, 1
_NAME = re.compile(r"msg[0-9a-f]{7}\Z")
_NAMED = re.compile(rb"msg([0-9a-f]{7})|([0-9a-f]{8})-0000-4000-8000-")
_PROPERTIES = b"baozi-properties"
_NO_LIMITS = ("A", [("V", None), ("V", None)])
#: Where a message waits for its ETA (Celery's native delayed delivery), and after how many seconds without
#: progress one looks there.
_DELAYED = [f"celery_delayed_{level}" for level in range(28)]
_SOON = 5
#: What a worker's log has when its loop began again: it lost its connection over a message.
_LOG_FAULTS = ("Unrecoverable error", "Connection to broker lost")


class Fault(NamedTuple):
    """What went wrong."""

    what: str
    number: int | None = None
    """With which message, where that is known."""


@dataclass(frozen=True)
class Mode:
    """One way to run the worker."""

    name: str
    pool: str
    processes: int
    settings: tuple[tuple[str, object], ...] = ()


MODES = {
    mode.name: mode
    for mode in (
        Mode("batches", "prefork", 2),
        Mode("single", "prefork", 1, (("tray", 1),)),
        Mode("threads", "threads", 2),
        Mode("solo", "solo", 1),
    )
}


class Worker:
    """One worker in one mode on a virtual host of its own, and all messages that were sent to it."""

    def __init__(self, place: Place, mode: Mode) -> None:
        """Start the worker and wait until it consumes."""
        self.place = place
        self._mode = mode
        self._numbers = count()
        self.settings = {"delivery_limit": DELIVERY_LIMIT, **dict(mode.settings)}
        self.started = self._start()
        self.client = Client(place.url)
        self._processes = {process.pid: peak(process) for process in self._tree()}
        self._baseline = max(self._processes.values())
        self._control = Celery(broker=place.url, set_as_current=False).control
        self._control.app.conf.update(control_queue_exclusive=False, control_queue_durable=True)
        self.ordered = ""
        """A run whose one order is closed, with nothing in it: its audit must find nothing wrong."""
        self._sent: dict[int, Message] = {}
        self._earlier: set[bytes] = set()
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def _start(self) -> StartedProcess:
        started = start_worker(
            self.place.process_group,
            self._mode.name,
            self.place.environment(**self.settings),
            self._mode.processes,
            self._mode.pool,
            changes=("--include", "tests.fuzz.barrier"),
        )
        deadline = time.monotonic() + 60
        while not self.place.consumers():
            assert started.process.poll() is None, started.log.read_text()
            assert time.monotonic() < deadline, "the worker does not consume"
            time.sleep(_LOOK_EVERY)
        return started

    def close(self) -> None:
        """End the worker, kindly or not, and hang up."""
        self.client.close()
        with suppress(psutil.NoSuchProcess):
            for process in self._tree():
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def take(self, messages: Iterable[Message], quiet: float = QUIET) -> list[Fault]:
        """Send ``messages`` and account for them; return what is wrong, nothing if all is well.

        Args:
            messages: hostile ones; good ones are sent between them.
            quiet: seconds in which no progress means that the worker is stuck.
        """
        self.client.purge("baozi.dead")
        log_at = self.started.log.stat().st_size
        self._earlier |= {message.wire_body for message in self._sent.values()}
        self._sent = self._send(messages)
        faults = self._settled(self._sent, quiet) or self._slots(quiet)
        faults += self._memory()
        log = self.started.log.read_bytes()[log_at:].decode(errors="replace")
        faults += [Fault(f"the worker's log has {line!r}") for line in _LOG_FAULTS if line in log]
        return faults

    def settle_again(self, quiet: float = QUIET) -> list[Fault]:
        """Account for the last messages once more, after their dead letters were replayed."""
        return self._settled(self._sent, quiet) or self._slots(quiet)

    def _send(self, messages: Iterable[Message]) -> dict[int, Message]:
        ordered: list[Message] = []
        for place, message in enumerate(messages):
            ordered += [message, good()] if place % GOOD_EVERY == 0 else [message]
        ordered += [good()] * 3 + [good_order()]
        numbered = {next(self._numbers): message for message in ordered}
        self.ordered = name_of(max(numbered))
        if any(message.kind == "revoked" for message in numbered.values()):
            for make, terminate in ((revoked_id, False), (terminated_id, True)):
                ids = [make(number) for number in numbered]
                self._control.revoke(ids, terminate=terminate, reply=True, limit=1, timeout=10)
        sent = {}
        for number, message in numbered.items():
            filled = message.filled(number)
            try:
                self.client.publish("baozi", "baozi", filled.head, filled.wire_body, filled.frame)
            except Refused:
                self.refused[message.kind] += 1
            else:
                self.accepted[message.kind] += 1
                sent[number] = filled
        return sent

    # --- the account

    def _settled(self, sent: dict[int, Message], quiet: float) -> list[Fault]:
        """Wait until all that was sent is accounted for; return what is not."""
        started = changed = time.monotonic()
        before: object = None
        while True:
            if self.started.process.poll() is not None:
                return [Fault(f"the worker ended with {self.started.process.returncode}")]
            eaten, letters = self._eaten(), self.client.count("baozi.dead")
            state = (len(eaten & sent.keys()), letters)
            if sum(state) >= len(sent):
                faults = self._account(sent, eaten)
                if not faults:
                    return []
                time.sleep(_READ_EVERY)
            now = time.monotonic()
            if state != before:
                before, changed = state, now
            stuck = now - changed > quiet or now - started > LONGEST
            if stuck or now - changed > _SOON:
                parked = Counter(_body(letter) for queue in _DELAYED for letter in self._all(queue))
                faults = self._account(sent, self._eaten(), parked)
                if parked and not faults:
                    for queue in _DELAYED:
                        self.client.purge(queue)
                if stuck or not faults:
                    return faults
            time.sleep(_LOOK_EVERY)

    def _eaten(self) -> set[int]:
        """The messages that the ledger knows, by the names in them."""
        path = self.place.home / "ledger.sqlite3"
        found: set[str] = set()
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as ledger:
            for table in ("eaten", "orders"):
                for row in ledger.execute(f"SELECT DISTINCT run, producer FROM {table}"):  # noqa: S608  # a constant above
                    found.update(row)
        return {int(name[3:], 16) for name in found if _NAME.match(name)}

    def reasons(self) -> dict[str, int]:
        """Why the dead letters died that are there now, and how many of each."""
        return dict(Counter(_reason(letter) for letter in self._all("baozi.dead")))

    def _all(self, queue: str) -> list[Got]:
        return self.client.all(queue) if self.client.count(queue) else []

    def _account(
        self, sent: dict[int, Message], eaten: set[int], parked: Mapping[bytes, int] = MappingProxyType({})
    ) -> list[Fault]:
        """Return what is wrong with the fates of ``sent``; ``parked`` are bodies that wait for their ETA."""
        faults = []
        same: dict[bytes, list[int]] = defaultdict(list)
        for number, message in sent.items():
            same[message.wire_body].append(number)
            if message.kind == "good" and number not in eaten:
                faults.append(Fault("a good message was not eaten", number))
        letters = defaultdict(list)
        for letter in self._all("baozi.dead"):
            letters[_body(letter)].append(letter)
        for body, numbers in same.items():
            dead = letters.pop(body, [])
            missing = [number for number in numbers if number not in eaten]
            for letter in dead:
                faults += [Fault(what, numbers[0]) for what in _wrong_with(letter, sent[numbers[0]])]
            if len(dead) > len(missing):
                what = "is dead twice" if missing else "was eaten and is dead"
                faults.append(Fault(f"a message {what}: {_reason(dead[-1])}", numbers[0]))
            elif len(dead) + parked.get(body, 0) < len(missing):
                faults.append(Fault("a message is neither eaten nor dead", missing[-1]))
        for body, strange in letters.items():
            if body in self._earlier:
                faults.append(Fault(f"a message that was settled is dead now: {_reason(strange[0])}"))
            elif not all(_sent_by(letter) & sent.keys() for letter in strange):
                faults.append(Fault(f"a dead letter that nobody sent: {body[:80]!r}, {_reason(strange[0])}"))
        return faults

    # --- the worker itself

    def _slots(self, quiet: float) -> list[Fault]:
        """Check that as many tasks as the pool has slots can run at once."""
        number = next(self._numbers)
        folder = self.place.home / f"barrier-{number}"
        folder.mkdir()
        slots = self._mode.processes
        for slot in range(slots):
            task = good()
            headers = [(name, value) for name, value in task.headers or [] if name not in {"task", "id"}]
            headers += [
                ("task", ("S", "fuzz.wait_for_all")),
                ("id", ("S", f"{number:08x}-0000-4000-9000-{slot:012x}")),
            ]
            body = json.dumps([[str(folder), f"arrived-{slot}", slots], {}, {}]).encode()
            message = Message("good", [(body, 1)], headers, task.properties)
            self.client.publish("baozi", "baozi", message.head, message.wire_body)
        deadline = time.monotonic() + quiet
        while len(list(folder.glob("finished-*"))) < slots:
            if time.monotonic() > deadline:
                started = len(list(folder.glob("arrived-*")))
                return [Fault(f"only {started} of {slots} slots of the pool are free")]
            time.sleep(_LOOK_EVERY)
        return []

    def _memory(self) -> list[Fault]:
        faults = []
        for process in self._tree():
            grown = peak(process) - self._processes.setdefault(process.pid, self._baseline)
            if grown > MEMORY:
                faults.append(Fault(f"a process of the worker grew by {grown / 1e6:.0f} MB"))
        return faults

    def _tree(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [self.started.process, *self.started.process.children()]
        return []

    def unacknowledged(self) -> int:
        """How many messages of the queue the worker holds, as the broker's own count says."""
        queue = self.place.node.api("GET", f"queues/{self.place.virtual_host}/baozi")
        return int(queue.get("messages", 1))


def _wrong_with(letter: Got, message: Message) -> list[str]:
    reason = _reason(letter)
    if not reason:
        return ["a dead letter has no reason"]
    # A time limit of the message's own choice may kill its pool process each time.
    limit = dict(message.headers or []).get("timelimit", _NO_LIMITS)
    if reason == "delivery_limit" and limit == _NO_LIMITS and message.kind != "protocol 1":
        return ["a message was delivered up to the limit"]
    return []


def _body(letter: Got) -> bytes:
    """The body of the message as it came: before it are its properties where they would fit in no frame."""
    _, properties = letter.headers.get(_PROPERTIES, ("I", 0))
    return letter.body[properties:] if isinstance(properties, int) else letter.body


def _sent_by(letter: Got) -> set[int]:
    """The messages that had a task send ``letter`` in its turn: it has their names or ids."""
    headers = b" ".join(value for kind, value in letter.headers.values() if kind in "SAF")
    found = _NAMED.findall(letter.body + headers)
    return {int(name or identity, 16) for name, identity in found}


def _reason(letter: Got) -> str:
    headers = letter.headers
    for name in (b"baozi-reason", b"x-first-death-reason"):
        if name in headers:
            return str(headers[name][1].decode(errors="replace"))
    if b"x-death" in headers:
        return str(first_table(headers[b"x-death"][1])[b"reason"][1].decode())
    return ""


def peak(process: psutil.Process) -> int:
    """Bytes of the most memory that ``process`` ever had."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        return int(found[1]) * 1000 if found else 0
    return 0
