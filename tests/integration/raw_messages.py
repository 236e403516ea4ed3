"""Messages as bytes: published with any properties, and read as they came over the wire."""

from struct import pack
from typing import Any

import amqp
from kombu import Connection

from baozi.amqp.connection import connect
from baozi.amqp.decoding import raw_properties
from baozi.amqp.properties import HEADERS, Field, join, table
from baozi.dead_letters.letter import raw_body

#: Bytes of a frame's payload at most, and of a content header before its properties.
FRAME, CONTENT_HEADER = 131_072 - 8, 12


class Raw(amqp.Message):
    """A message with these bytes for its properties."""

    def __init__(self, body: bytes, properties: bytes) -> None:
        super().__init__(body)
        self._raw = properties

    def _serialize_properties(self) -> bytes:
        return self._raw


def header(name: bytes, kind: bytes, value: bytes) -> Field:
    """A header with any bytes for its value, of the type ``kind``."""
    return Field(name, pack("B", len(name)) + name + kind + value)


def long(value: bytes) -> bytes:
    """A value with its length before it."""
    return pack(">I", len(value)) + value


def text(name: str, value: str) -> Field:
    return header(name.encode(), b"S", long(value.encode("utf-8", "surrogatepass")))


def short(value: str | bytes) -> bytes:
    """A property that is a short text."""
    raw = value if isinstance(value, bytes) else value.encode()
    return pack("B", len(raw)) + raw


def properties(*headers: Field, **others: bytes) -> bytes:
    return join({**others, **({HEADERS: table(headers)} if headers else {})})


def publish(url: str, exchange: str, messages: list[tuple[bytes, bytes]]) -> None:
    """Publish each ``(body, properties)``, confirmed."""
    with Connection(url, connect_timeout=5, transport_options={"confirm_publish": True}) as connection:
        channel: Any = connection.channel()
        for body, raw in messages:
            channel.basic_publish(Raw(body, raw), exchange=exchange, routing_key="baozi", mandatory=True)


def taken(url: str, queue: str) -> list[tuple[bytes, bytes]]:
    """Take all messages out of ``queue``; return each as ``(body, properties)``."""
    found = []
    with connect("a test", url=url) as connection:
        channel: Any = connection.channel()
        while (message := amqp.Channel.basic_get(channel, queue, no_ack=True)) is not None:
            found.append((raw_body(message), bytes(raw_properties(message) or b"")))
    return found
