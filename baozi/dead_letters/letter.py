"""One dead letter, a message of ``baozi.dead``: what it tells, and how its message is sent again unchanged.

A message is kept as the bytes that came over the wire, its properties included: neither kombu nor py-amqp
decodes it here, so nothing of it can change, and nothing in it can break a command.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from math import isfinite
from typing import Any, NamedTuple
from uuid import UUID

import amqp
from kombu import Producer

from baozi.amqp import decoding
from baozi.amqp.inflating import LONGEST, inflated
from baozi.amqp.properties import HEADERS, MalformedProperties, field, fields, join, split, table
from baozi.errors import NotABaozi
from baozi.model import RUN_HEADER, Baozi, Tray
from baozi.settings import settings

#: Headers that a burial adds (:mod:`baozi.dead_letters.republishing`).
REASON, CONSUMER, DIED_AT, DELIVERIES = "baozi-reason", "baozi-consumer", "baozi-died-at", "baozi-deliveries"
#: The end of the traceback of the exception that it died of.
TRACEBACK = "baozi-traceback"
#: How many bytes at the start of the body are the message's own properties: they would not fit in one frame
#: with those of the burial.
PROPERTIES = "baozi-properties"
_DEAD_LETTER_HEADERS = frozenset(
    name.encode() for name in (REASON, CONSUMER, DIED_AT, DELIVERIES, TRACEBACK, PROPERTIES)
)
#: Headers that the broker adds to what it delivers again or moves to the dead letters. Sent on with them, a
#: message would look as if it had failed already.
_BROKER_HEADERS = frozenset(
    f"x-{name}".encode()
    for name in (
        "death",
        "delivery-count",
        "acquired-count",
        *(f"{which}-death-{what}" for which in ("first", "last") for what in ("reason", "queue", "exchange")),
    )
)
#: Properties that only the first sender may set, or that would let the broker throw a message away: a user's
#: name, which the broker compares with the connection's, and the time to live.
_NOT_REPUBLISHED = frozenset({"user_id", "expiration", "cluster_id"})

#: Bytes of a frame that are not its payload, and of a content header before its properties (AMQP 0-9-1,
#: sections 4.2.3 and 4.2.6.1).
_FRAME, _CONTENT_HEADER = 8, 12

#: Encodings of a body that is searched for baozi. Others are not tried: some of Python's take time that grows
#: with the square of the length.
_ENCODINGS = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "iso-8859-1", "us-ascii")
#: Deliveries that no broker counts up to: a header of its name in a stranger's message may hold any number.
_TOO_MANY = 2**31


class Original(NamedTuple):
    """A message as it was published."""

    body: bytes
    properties: bytes
    """Flags and values, as they stand in a content header."""


@dataclass(frozen=True)
class DeadMessage:
    """A message in the queue of the dead letters, and what its headers tell about it."""

    original: Original
    """The message that died, without what its burial and the broker added to it."""
    headers: Mapping[str, Any]
    """Its headers and those that were added, decoded as far as they can be."""
    properties: Mapping[str, Any]
    """AMQP's others, by py-amqp's names: ``content_type``, ``message_id``, …"""
    delivery_tag: int = 0

    @classmethod
    def of(cls, message: Any) -> "DeadMessage":
        """Take a py-amqp message that :mod:`baozi.amqp.decoding` has decoded."""
        raw = decoding.raw_properties(message) or join({})
        added = _decoded(raw)[HEADERS]
        original = _original_message(bytes(message.body), raw, added)
        properties = _decoded(original.properties)
        headers = {**properties.pop(HEADERS), **added}
        return cls(original, headers, properties, message.delivery_tag)

    @property
    def body(self) -> bytes:
        """The message's body, as it came."""
        return self.original.body

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
        return _text(self.headers.get(REASON) or self.headers.get("x-first-death-reason") or "unknown")

    @property
    def traceback(self) -> str | None:
        """The end of the traceback of the exception that it died of; None if it died of none."""
        end = self.headers.get(TRACEBACK)
        return None if end is None else _text(end)

    @property
    def consumer(self) -> str | None:
        """The worker that buried it; None if the broker did."""
        consumer = self.headers.get(CONSUMER)
        return None if consumer is None else _text(consumer)

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

    @cached_property
    def baozi(self) -> list[Baozi]:
        """The baozi in it: one, those of a producer's tray, or none."""
        with suppress(ValueError, TypeError, LookupError, RecursionError, NotABaozi):
            item = json.loads(self._text())[0][0]
            return Tray.parse(item, old=True).baozi if "numbers" in item else [Baozi.parse(item, old=True)]
        return []

    @property
    def runs(self) -> set[str]:
        """The runs that it names: in a header, or in its body, as a baozi, a tray and a closed order do."""
        named = {one.run for one in self.baozi}
        with suppress(ValueError, TypeError, LookupError, RecursionError):
            named.add(json.loads(self._text())[0][0]["run"])
        header = self.headers.get(RUN_HEADER)
        return {run for run in (*named, header) if isinstance(run, str)}

    def _text(self) -> str | bytes:
        """Return the body, inflated and decoded, if a baozi may be in it.

        Raises:
            ValueError: none is: the body is too long, or damaged.
        """
        body = self.body
        with suppress(ValueError):  # a letter of an earlier release may be inflated already
            body = inflated(body, self.headers.get("compression"))
        if len(body) > LONGEST:
            raise ValueError("too long for baozi")
        encoding = str(self.properties.get("content_encoding")).lower()
        return body.decode(encoding) if encoding in _ENCODINGS else body


def raw_body(message: Any) -> bytes:
    """Return the body of a kombu message as it came over the wire."""
    body = getattr(message, "raw_body", message.body)
    return body.encode() if isinstance(body, str) else bytes(body)


def raw_properties(message: Any) -> bytes:
    """Return the properties of a kombu message as they came over the wire; of another transport, encoded."""
    raw = decoding.raw_properties(message)
    if raw is None:
        encoder: Any = amqp.Message(**{**message.properties, HEADERS: message.headers})
        raw = encoder._serialize_properties()
    return bytes(raw)


def deliveries(headers: Mapping[str, Any]) -> int:
    """How often a message with these ``headers`` has been delivered, this time included.

    RabbitMQ 4 counts those that were given back without being tried apart. A count that no broker reaches is
    its sender's invention.
    """
    counts = (headers.get(name) for name in ("x-delivery-count", "x-acquired-count"))
    return 1 + max(
        (count for count in counts if isinstance(count, int) and 0 <= count < _TOO_MANY), default=0
    )


def original_properties(properties: bytes) -> bytes:
    """Return ``properties`` (flags and values) without the headers that a burial and the broker added."""
    try:
        parts = split(properties)
        headers = fields(parts.get(HEADERS))
    except MalformedProperties:  # the broker refuses such a message
        return properties
    own = [it for it in headers if it.name not in _DEAD_LETTER_HEADERS | _BROKER_HEADERS]
    if len(own) == len(headers):
        return properties
    parts[HEADERS] = table(own)
    if not own:
        del parts[HEADERS]
    return join(parts)


def _original_message(body: bytes, properties: bytes, headers: Mapping[str, Any]) -> Original:
    """Return the message that a letter was: what :func:`dead_lettered` made a letter of."""
    length = headers.get(PROPERTIES)
    # A letter that the broker made is no burial's: its sender wrote that header.
    if isinstance(length, int) and 0 < length <= len(body) and "x-first-death-reason" not in headers:
        with suppress(MalformedProperties):
            split(body[:length])
            return Original(body[length:], body[:length])
    return Original(body, original_properties(properties))


def dead_lettered(original: Original, facts: Mapping[str, Any], frame_max: int | None) -> Original:
    """Return ``original`` as it is put among the dead letters: with ``facts`` among its headers.

    Args:
        original: with properties as :func:`original_properties` returns them.
        facts: the headers of the burial.
        frame_max: bytes of the largest frame that the broker takes; None for no limit. RabbitMQ does not
            split the properties over several. If they do not fit, the original ones stand before the body.
    """
    added = [field(name, value) for name, value in facts.items()]
    parts = split(publishable_properties(original.properties))
    parts[HEADERS] = table([*fields(parts.get(HEADERS)), *added])
    whole = join(parts)
    if frame_max is None or len(whole) + _CONTENT_HEADER + _FRAME <= frame_max:
        return Original(original.body, whole)
    added.append(field(PROPERTIES, len(original.properties)))
    return Original(original.properties + original.body, join({HEADERS: table(added)}))


def publishable_properties(properties: bytes) -> bytes:
    """Return ``properties`` without those that only the first sender may set."""
    return join({name: value for name, value in split(properties).items() if name not in _NOT_REPUBLISHED})


class _RawMessage(amqp.Message):
    """A message for py-amqp to publish whose properties are bytes already."""

    def __init__(self, message: Original) -> None:
        super().__init__(message.body)
        self._raw = message.properties

    def _serialize_properties(self) -> bytes:
        return self._raw


def publish_unchanged(producer: Producer, message: Original, exchange: str, routing_key: str) -> None:
    """Publish ``message``, which somebody else made, mandatory and with nothing on it changed."""
    channel: Any = producer.channel
    prepared: Any = _RawMessage(message)
    if not isinstance(channel, amqp.Channel):  # in memory
        properties = _decoded(message.properties)
        named = {
            name: properties.pop(name, None) for name in ("content_type", "content_encoding", "priority")
        }
        headers = properties.pop(HEADERS)
        prepared = channel.prepare_message(message.body, headers=headers, properties=properties, **named)
    channel.basic_publish(prepared, exchange=exchange, routing_key=routing_key, mandatory=True)


def _decoded(properties: bytes) -> dict[str, Any]:
    """Decode what can be decoded: of headers that cannot be read together, each by itself, or its bytes."""
    decoded = decoding.properties(properties)
    found = {HEADERS: {}, **decoded}
    if decoded.fault:
        with suppress(MalformedProperties):
            for header in fields(split(properties).get(HEADERS)):
                alone = decoding.properties(join({HEADERS: table([header])}))
                found[HEADERS] |= alone[HEADERS] or {header.name.decode(errors="replace"): header.whole}
    return found


def _text(value: object) -> str:
    """Return a header's value as text; bytes that are not UTF-8 are written out."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _is_uuid(text: str) -> bool:
    with suppress(ValueError):
        return str(UUID(text)) == text
    return False


def _seconds(time: object) -> float | None:
    if isinstance(time, datetime):  # py-amqp's; AMQP's times are UTC
        return time.replace(tzinfo=UTC).timestamp()
    return float(time) if isinstance(time, int | float) and isfinite(time) else None
