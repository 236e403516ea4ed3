"""One dead letter, a message of ``baozi.dead``: what it tells, and how it is sent on as it came."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from kombu import Exchange, Producer

from baozi.errors import NotABaozi
from baozi.model import Baozi, Tray
from baozi.settings import settings

#: Headers that a burial adds (:mod:`tasks.burial`).
REASON, CONSUMER, DIED_AT, DELIVERIES = "baozi-reason", "baozi-consumer", "baozi-died-at", "baozi-deliveries"
#: Headers that the broker adds to what it delivers again or moves to the dead letters. Sent on with them, a
#: message would look as if it had failed already.
_BROKERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
#: Properties that only the first sender may set, or that would let the broker throw a message away: a user's
#: name, which the broker compares with the connection's, and the time to live.
_NOT_SENT_ON = {"application_headers", "user_id", "expiration", "cluster_id", "delivery_mode"}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of ``baozi.dead``, as it came."""

    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    """AMQP's, by py-amqp's names: ``content_type``, ``message_id``, …"""
    delivery_tag: int = 0

    @classmethod
    def of(cls, message: Any) -> "DeadLetter":
        """Take a kombu message."""
        return cls(raw_body(message), message.headers or {}, message.properties, message.delivery_tag)

    @property
    def id(self) -> str:
        """What names it: its Celery task id; of a letter without one, a digest of all that it has.

        Two letters of one id are the same: one that was replayed or buried twice.
        """
        task_id = self.headers.get("id")
        if isinstance(task_id, str) and _is_uuid(task_id):
            return task_id
        parts = (str(self.properties.get("message_id")).encode(), str(task_id).encode(), self.body)
        return sha256(b"\0".join(parts)).hexdigest()[:32]

    @property
    def reason(self) -> str:
        """Why it is here: the burial's reason, or else the broker's (``delivery_limit``, say)."""
        return str(self.headers.get(REASON) or self.headers.get("x-first-death-reason") or "unknown")

    @property
    def consumer(self) -> str | None:
        """The worker that buried it; None if the broker did."""
        consumer = self.headers.get(CONSUMER)
        return None if consumer is None else str(consumer)

    @property
    def attempts(self) -> int | None:
        """How often it had been delivered when it died; None if nobody knows.

        The broker moves a message when its delivery limit is passed: once more than the setting says.
        """
        deliveries = self.headers.get(DELIVERIES)
        if isinstance(deliveries, int):
            return deliveries
        return settings().delivery_limit + 1 if self.reason == "delivery_limit" else None

    @property
    def first_at(self) -> float | None:
        """When it was made or sent, in epoch seconds, if it says so."""
        if self.baozi:
            return self.baozi[0].made_at
        return _seconds(self.properties.get("timestamp"))

    @property
    def last_at(self) -> float | None:
        """When it died, in epoch seconds."""
        died_at = self.headers.get(DIED_AT)
        if died_at is None:
            with suppress(LookupError, TypeError):
                died_at = self.headers["x-death"][0]["time"]
        return _seconds(died_at)

    @property
    def baozi(self) -> list[Baozi]:
        """The baozi in it: one, those of a producer's tray, or none."""
        with suppress(ValueError, TypeError, LookupError, RecursionError, NotABaozi):
            item = json.loads(self.body)[0][0]
            return Tray.parse(item).baozi if "numbers" in item else [Baozi.parse(item)]
        return []


def raw_body(message: Any) -> bytes:
    """Return a kombu message's body as it came over the wire; kombu decodes what calls itself UTF-8."""
    body = message.body
    return body.encode() if isinstance(body, str) else bytes(body)


def deliveries(headers: Mapping[str, Any]) -> int:
    """How often a message with these ``headers`` has been delivered, this time included.

    RabbitMQ 4 counts those that were given back without being tried apart.
    """
    counts = (headers.get(name) for name in ("x-delivery-count", "x-acquired-count"))
    return 1 + max((count for count in counts if isinstance(count, int)), default=0)


def as_it_came(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``headers`` without those that a burial and the broker added."""
    ours = {REASON, CONSUMER, DIED_AT, DELIVERIES}
    return {name: it for name, it in headers.items() if name not in ours and not name.startswith(_BROKERS)}


def send_on(
    producer: Producer,
    body: bytes,
    headers: Mapping[str, Any],
    properties: Mapping[str, Any],
    exchange: str,
    routing_key: str,
) -> None:
    """Publish a message that somebody else made: persistent, mandatory, and else with the same properties."""
    kept = {name: it for name, it in properties.items() if name not in _NOT_SENT_ON}
    kept["delivery_mode"] = Exchange.PERSISTENT_DELIVERY_MODE
    # Not by way of the producer's own publish, which would add a content type to a message that has none.
    channel: Any = producer.channel
    named = {name: kept.pop(name, None) for name in ("content_type", "content_encoding", "priority")}
    message = channel.prepare_message(body, headers=dict(headers), properties=kept, **named)
    channel.basic_publish(message, exchange=exchange, routing_key=routing_key, mandatory=True)


def _is_uuid(text: str) -> bool:
    with suppress(ValueError):
        return str(UUID(text)) == text
    return False


def _seconds(time: object) -> float | None:
    if isinstance(time, datetime):  # py-amqp's; AMQP's times are UTC
        return time.replace(tzinfo=UTC).timestamp()
    return float(time) if isinstance(time, int | float) else None
