"""Hostile messages that are dead letters already, as the broker itself moves them, and the commands."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from subprocess import CompletedProcess, TimeoutExpired

from kombu import Connection

from baozi.ledger import Ledger
from baozi.model import Closing
from baozi.settings import Settings
from baozi.topology import Topology
from tests.fuzz.messages import Message, good
from tests.fuzz.wire import Client, Got, Refused
from tests.fuzz.worker import QUIET, Fault
from tests.integration.place import Place

#: Names of headers that dead-lettering or the broker adds, and that a replay removes.
_ADDED = (b"baozi-", b"x-death", b"x-first-death", b"x-last-death", b"x-delivery-count", b"x-acquired-count")
#: How many letters are shown.
_SHOWN = 60


class Letters:
    """The dead letters of a virtual host without a worker, and the commands."""

    def __init__(self, place: Place) -> None:
        """Declare the queues, and make a ledger with one order."""
        self._place = place
        with Connection(place.url, connect_timeout=5) as connection:
            Topology.of(Settings()).declare(connection)
        ledger = Ledger(place.ledger_url).open()
        ledger.record_order(Closing(run="r", producer="alex", accepted=0, attempted=0, closed_at=1.5))
        ledger.close()
        self.client = Client(place.url)
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def close(self) -> None:
        """Hang up."""
        self.client.close()

    def take(self, messages: Iterable[Message], quiet: float = QUIET) -> list[Fault]:  # noqa: ARG002  # all targets take the same arguments
        """Put ``messages`` to the dead letters and run each command on them; return what is wrong."""
        for queue in ("baozi", "baozi.dead"):
            self.client.purge(queue)
        sent = self._send(enumerate([*messages, good()]))
        faults: list[Fault] = []
        listed = [json.loads(line) for line in self._run(faults, "dead", "list", "--json").splitlines()]
        self._run(faults, "dead", "list")
        if len(listed) != len(sent) and not faults:
            faults.append(Fault(f"`baozi dead list` lists {len(listed)} letters of {len(sent)}"))
        ids = sorted({str(letter["id"]) for letter in listed})
        if ids:
            self._run(faults, "dead", "show", *ids[:_SHOWN])
            shown = self._run(faults, "dead", "show", "--json", *ids[:_SHOWN]).splitlines()
            if any("id" not in json.loads(line) for line in shown):
                faults.append(Fault("`baozi dead show` shows a letter without its id"))
        self._run(faults, "audit", "r", "--json")
        before = Counter(map(_of_letter, self.client.all("baozi.dead")))
        self._run(faults, "dead", "replay", "--all")
        after = Counter(map(_of_letter, self.client.all("baozi")))
        if before != after and not faults:
            lost, new = next(iter(before - after), None), next(iter(after - before), None)
            faults.append(
                Fault(f"a letter is replayed otherwise than it came: {lost!r:.300}, now {new!r:.300}")
            )
        self._send(enumerate([*messages, good()]))
        if ids:
            self._run(faults, "dead", "drop", "--yes", *ids)
            if (left := self.client.count("baozi.dead")) and not faults:
                faults.append(Fault(f"`baozi dead drop` left {left} letters"))
        return faults

    def _send(self, messages: Iterable[tuple[int, Message]]) -> list[Message]:
        sent = []
        for number, message in messages:
            # The broker takes a message's time to live away when it moves it to the dead letters.
            lasting = {name: it for name, it in message.properties.items() if name != "expiration"}
            filled = replace(message, properties=lasting).filled(number)
            try:
                self.client.publish("baozi.dead", "baozi", filled.head, filled.wire_body, filled.frame)
            except Refused:
                self.refused[message.kind] += 1
            else:
                self.accepted[message.kind] += 1
                sent.append(filled)
        return sent

    def _run(self, faults: list[Fault], *arguments: str) -> str:
        words = " ".join(arguments)[:60]
        try:
            done: CompletedProcess[str] = self._place.run(*arguments)
        except TimeoutExpired:
            faults.append(Fault(f"`baozi {words}` does not end"))
            return ""
        if done.returncode or "Traceback" in done.stderr:
            faults.append(Fault(f"`baozi {words}` ends with {done.returncode}: {done.stderr.strip()[-300:]}"))
            return ""
        return done.stdout


def _of_letter(letter: Got) -> tuple[bytes, bytes, bytes, tuple[bytes, ...]]:
    """What of a letter a replay keeps: body, content type and encoding, and the names of its own headers.

    A replay removes the number of retries, because a replayed message starts anew.
    """
    names = tuple(sorted(it for it in letter.headers if it != b"retries" and not it.startswith(_ADDED)))
    properties = letter.properties
    return letter.body, properties.get("content_type", b""), properties.get("content_encoding", b""), names
