"""One dead letter, a message of ``baozi.dead``: what it contains, and how to publish it unchanged.

The message and its properties stay the bytes that were received. Neither kombu nor py-amqp decodes them, so
nothing in them changes, and nothing in them makes a command fail.
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

#: Headers that the worker adds when it dead-letters a message (:mod:`baozi.dead_letters.republishing`).
REASON, CONSUMER, DIED_AT, DELIVERIES = "baozi-reason", "baozi-consumer", "baozi-died-at", "baozi-deliveries"
#: The header with the end of the traceback of the exception.
TRACEBACK = "baozi-traceback"
#: How many bytes at the start of the body are the message's own properties. Together with the worker's
#: headers they would not fit in one frame.
PROPERTIES = "baozi-properties"
_DEAD_LETTER_HEADERS = frozenset(
    name.encode() for name in (REASON, CONSUMER, DIED_AT, DELIVERIES, TRACEBACK, PROPERTIES)
)
#: Headers that the broker adds when it redelivers or dead-letters a message. A message that is republished
#: with them would look as if it had already failed.
_BROKER_HEADERS = frozenset(
    f"x-{name}".encode()
    for name in (
        "death",
        "delivery-count",
        "acquired-count",
        *(f"{which}-death-{what}" for which in ("first", "last") for what in ("reason", "queue", "exchange")),
    )
)
#: Properties that only the first sender may set, or that would let the broker drop a message: the user's
#: name, which the broker compares with the connection's user, and the time to live.
_NOT_REPUBLISHED = frozenset({"user_id", "expiration", "cluster_id"})

#: Celery's header that counts the retries of a message, and the header of a message without retries.
_RETRIES, _NO_RETRIES = b"retries", field("retries", 0)

#: Bytes of a frame without its payload, and of a content header without its properties (AMQP 0-9-1, sections
#: 4.2.3 and 4.2.6.1).
_FRAME, _CONTENT_HEADER = 8, 12

#: Encodings of a body in which baozi are looked for. Others are not tried: some of Python's decoders take
#: time that grows with the square of the length.
_ENCODINGS = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "iso-8859-1", "us-ascii")
#: More deliveries than a broker counts. In a foreign message the header may have any value.
_TOO_MANY = 2**31


class Original(NamedTuple):
    """A message as it was published."""

    body: bytes
    properties: bytes
    """Flags and values, as in a content header."""


@dataclass(frozen=True)
class DeadMessage:
    """A message in the queue of the dead letters."""

    original: Original
    """The message as it was before the worker or the broker added headers to it."""
    headers: Mapping[str, Any]
    """Its headers and the added ones, decoded as far as possible."""
    properties: Mapping[str, Any]
    """The other AMQP properties, by py-amqp's names: ``content_type``, ``message_id`` and so on."""
    delivery_tag: int = 0

    @classmethod
    def of(cls, message: Any) -> "DeadMessage":
        """Return the dead letter of a py-amqp message that :mod:`baozi.amqp.decoding` has decoded."""
        raw = decoding.raw_properties(message) or join({})
        added = _decoded(raw)[HEADERS]
        original = _original_message(bytes(message.body), raw, added)
        properties = _decoded(original.properties)
        headers = {**properties.pop(HEADERS), **added}
        return cls(original, headers, properties, message.delivery_tag)

    @property
    def body(self) -> bytes:
        """The message's body, as received."""
        return self.original.body

    @property
    def id(self) -> str:
        """Its Celery task id; without one, a digest of its contents.

        Two letters with one id are copies of one message, which was replayed or dead-lettered twice.
        """
        task_id = self.headers.get("id")
        if isinstance(task_id, str) and _is_uuid(task_id):
            return task_id
        parts = (str(self.properties.get("message_id")).encode(), str(task_id).encode(), self.body)
        return sha256(b"\0".join(parts)).hexdigest()[:32]

    @property
    def reason(self) -> str:
        """Why it was dead-lettered: the worker's reason, or else the broker's, such as ``delivery_limit``."""
        return _text(self.headers.get(REASON) or self.headers.get("x-first-death-reason") or "unknown")

    @property
    def traceback(self) -> str | None:
        """The end of the exception's traceback; None if there was no exception."""
        end = self.headers.get(TRACEBACK)
        return None if end is None else _text(end)

    @property
    def consumer(self) -> str | None:
        """The worker that dead-lettered it; None if the broker did."""
        consumer = self.headers.get(CONSUMER)
        return None if consumer is None else _text(consumer)

    @property
    def attempts(self) -> int | None:
        """How many times it had been delivered when it was dead-lettered; None if unknown.

        The broker dead-letters a message after one delivery more than the delivery limit.
        """
        deliveries = self.headers.get(DELIVERIES)
        if isinstance(deliveries, int):
            return deliveries
        return settings().delivery_limit + 1 if self.reason == "delivery_limit" else None

    @property
    def first_at(self) -> float | None:
        """When it was made or sent, in epoch seconds; None if unknown."""
        if self.baozi:
            return self.baozi[0].made_at
        return _seconds(self.properties.get("timestamp"))

    @property
    def last_at(self) -> float | None:
        """When it was dead-lettered, in epoch seconds; None if unknown."""
        died_at = self.headers.get(DIED_AT)
        if died_at is None:
            with suppress(LookupError, TypeError):
                died_at = self.headers["x-death"][0]["time"]
        return _seconds(died_at)

    @cached_property
    def baozi(self) -> list[Baozi]:
        """The baozi in the message: one, those of a producer's tray, or none."""
        with suppress(ValueError, TypeError, LookupError, RecursionError, NotABaozi):
            item = json.loads(self._text())[0][0]
            return Tray.parse(item, old=True).baozi if "numbers" in item else [Baozi.parse(item, old=True)]
        return []

    @property
    def runs(self) -> set[str]:
        """The runs that its header or its body names. The body may be a baozi, a tray or a closed order."""
        named = {one.run for one in self.baozi}
        with suppress(ValueError, TypeError, LookupError, RecursionError):
            named.add(json.loads(self._text())[0][0]["run"])
        header = self.headers.get(RUN_HEADER)
        return {run for run in (*named, header) if isinstance(run, str)}

    def _text(self) -> str | bytes:
        """Return the body, decompressed and decoded.

        Raises:
            ValueError: it contains no baozi, because it is too long or damaged.
        """
        body = self.body
        with suppress(ValueError):  # a letter of an earlier release may be decompressed already
            body = inflated(body, self.headers.get("compression"))
        if len(body) > LONGEST:
            raise ValueError("too long for baozi")
        encoding = str(self.properties.get("content_encoding")).lower()
        return body.decode(encoding) if encoding in _ENCODINGS else body


def raw_body(message: Any) -> bytes:
    """Return the body of a kombu message as received."""
    body = getattr(message, "raw_body", message.body)
    return body.encode() if isinstance(body, str) else bytes(body)


def raw_properties(message: Any) -> bytes:
    """Return the properties of a kombu message as received; on another transport, encode them."""
    raw = decoding.raw_properties(message)
    if raw is None:
        encoder: Any = amqp.Message(**{**message.properties, HEADERS: message.headers})
        raw = encoder._serialize_properties()
    return bytes(raw)


def deliveries(headers: Mapping[str, Any]) -> int:
    """Return how many times a message with these ``headers`` has been delivered, including this time.

    RabbitMQ 4 has a second count for deliveries that were requeued without being tried. A count that no
    broker reaches was written by the sender and is ignored.
    """
    counts = (headers.get(name) for name in ("x-delivery-count", "x-acquired-count"))
    return 1 + max(
        (count for count in counts if isinstance(count, int) and 0 <= count < _TOO_MANY), default=0
    )


def original_properties(properties: bytes) -> bytes:
    """Return ``properties`` (flags and values) without the headers that the worker and the broker added."""
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
    """Return the message from which :func:`dead_lettered` or the broker made a letter."""
    length = headers.get(PROPERTIES)
    # If the broker dead-lettered the message, the header PROPERTIES is the sender's.
    if isinstance(length, int) and 0 < length <= len(body) and "x-first-death-reason" not in headers:
        with suppress(MalformedProperties):
            split(body[:length])
            return Original(body[length:], body[:length])
    return Original(body, original_properties(properties))


def dead_lettered(original: Original, facts: Mapping[str, Any], frame_max: int | None) -> Original:
    """Return the dead letter of ``original``: the message with ``facts`` added to its headers.

    Args:
        original: the message, with properties as :func:`original_properties` returns them.
        facts: the headers to add.
        frame_max: bytes of the largest frame that the broker accepts; None for no limit. RabbitMQ does not
            split the properties over several frames. If they do not fit in one, the original properties are
            put before the body.
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


def replayable_properties(properties: bytes) -> bytes:
    """Return publishable ``properties`` without the number of retries: a replayed message starts anew."""
    parts = split(publishable_properties(properties))
    try:
        headers = fields(parts.get(HEADERS))
    except MalformedProperties:  # the broker refuses such a message
        return join(parts)
    own = [header for header in headers if header.name != _RETRIES or header.whole == _NO_RETRIES.whole]
    if len(own) < len(headers):
        parts[HEADERS] = table(own)
    return join(parts)


class _RawMessage(amqp.Message):
    """A message for py-amqp whose properties are already bytes."""

    def __init__(self, message: Original) -> None:
        super().__init__(message.body)
        self._raw = message.properties

    def _serialize_properties(self) -> bytes:
        return self._raw


def publish_unchanged(producer: Producer, message: Original, exchange: str, routing_key: str) -> None:
    """Publish ``message`` as it is, mandatory."""
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
    """Decode the properties. If the table of headers is invalid, decode each alone, or keep its bytes."""
    decoded = decoding.properties(properties)
    found = {HEADERS: {}, **decoded}
    if decoded.fault:
        with suppress(MalformedProperties):
            for header in fields(split(properties).get(HEADERS)):
                alone = decoding.properties(join({HEADERS: table([header])}))
                found[HEADERS] |= alone[HEADERS] or {header.name.decode(errors="replace"): header.whole}
    return found


def _text(value: object) -> str:
    """Return a header's value as text; bytes that are not UTF-8 are escaped."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _is_uuid(text: str) -> bool:
    with suppress(ValueError):
        return str(UUID(text)) == text
    return False


def _seconds(time: object) -> float | None:
    if isinstance(time, datetime):  # from py-amqp; AMQP's times are UTC
        return time.replace(tzinfo=UTC).timestamp()
    return float(time) if isinstance(time, int | float) and isfinite(time) else None
