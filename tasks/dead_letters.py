"""Looking through the dead letters without taking any away."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kombu import Connection

from baozi.errors import NotABaozi
from baozi.model import Baozi
from tasks import topology
from tasks.burial import REASON
from tasks.connection import connect, using


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of ``baozi.dead``, as it came."""

    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Why it is here: the burial's reason, or else the broker's (``delivery_limit``, say)."""
        return str(self.headers.get(REASON) or self.headers.get("x-first-death-reason") or "unknown")

    @property
    def baozi(self) -> Baozi | None:
        """The baozi in it, if it is one."""
        with suppress(ValueError, TypeError, LookupError, NotABaozi):
            return Baozi.parse(json.loads(self.body)[0][0])
        return None


def browse() -> Iterator[DeadLetter]:
    """Yield every dead letter, oldest first; each is given back at the end.

    Raises:
        BrokerError: the broker cannot be used, as :func:`tasks.connection.connect` says.
    """
    with connect("dead letters") as connection, using():
        yield from _letters(connection)


def _letters(connection: Connection) -> Iterator[DeadLetter]:
    # Closing the channel gives back what was got and not acknowledged, in its old place.
    with connection.channel() as channel:
        queue: Any = topology.dead_queue()(channel)
        # As many as there are now: those that arrive meanwhile are for the next look.
        for _ in range(queue.queue_declare(passive=True).message_count):
            message = queue.get(no_ack=False)
            if message is None:
                return
            yield DeadLetter(raw_body(message), message.headers or {})


def raw_body(message: Any) -> bytes:
    """Return a kombu message's body as it came over the wire; kombu decodes what calls itself UTF-8."""
    body = message.body
    return body.encode() if isinstance(body, str) else bytes(body)


def count_by_producer(run: str) -> Counter[str]:
    """Count the dead baozi of ``run`` by producer.

    Raises:
        BrokerError: as above.
    """
    dead = (letter.baozi for letter in browse())
    return Counter(baozi.producer for baozi in dead if baozi is not None and baozi.run == run)
