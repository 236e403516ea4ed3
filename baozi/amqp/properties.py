"""Splits and joins a message's properties without decoding any value.

A value that is decoded and encoded again may change: py-amqp writes a 16-bit number with 32 bits, a float as
a double and bytes as text. The properties of a dead letter must not change, so they stay bytes here.
"""

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Any, NamedTuple

from amqp.serialization import dumps

#: py-amqp's name of the property that is the table of headers.
HEADERS = "application_headers"

_FLAGS = Struct(">H")
_LENGTH = Struct(">I")
#: Bytes of a value of fixed size; None for a short string, which begins with a byte that is its length (AMQP
#: 0-9-1, section 1.8). In the order on the wire; the first has the highest flag.
_SIZES: dict[str, int | None] = {
    "content_type": None,
    "content_encoding": None,
    HEADERS: 0,  # the table begins with its size
    "delivery_mode": 1,
    "priority": 1,
    "correlation_id": None,
    "reply_to": None,
    "expiration": None,
    "message_id": None,
    "timestamp": 8,
    "type": None,
    "user_id": None,
    "app_id": None,
    "cluster_id": None,
}
_BITS = {name: 0x8000 >> place for place, name in enumerate(_SIZES)}
#: Bytes of a header's value after the letter of its type, by that letter. Other values begin with their
#: length in four bytes. RabbitMQ's types ("AMQP 0-9-1 Errata", section 3) and those of the specification
#: (section 4.2.1).
_FIXED_SIZES = {
    letter: size
    for size, letters in ((0, b"V"), (1, b"tbB"), (2, b"sUu"), (4, b"Iif"), (5, b"D"), (8, b"LldT"))
    for letter in letters
}
_LENGTH_PREFIXED = frozenset(b"SxFA")


class MalformedProperties(ValueError):
    """The bytes are not valid properties of a message."""


class Field(NamedTuple):
    """One header."""

    name: bytes
    whole: bytes
    """The bytes of its name and its value in the table."""


def split(raw: bytes) -> dict[str, bytes]:
    """Return the bytes of each property in ``raw``, by py-amqp's names, in their order.

    Args:
        raw: flags and values, as in a content header.

    Raises:
        MalformedProperties: the bytes are too short.
    """
    values: dict[str, bytes] = {}
    flags, offset = _number(_FLAGS, raw, 0), _FLAGS.size
    for name, bit in _BITS.items():
        if flags & bit:
            size = _SIZES[name]
            if name == HEADERS:
                size = _LENGTH.size + _number(_LENGTH, raw, offset)
            elif size is None:
                size = 1 + _number(Struct("B"), raw, offset)
            values[name] = _cut(raw, offset, size)
            offset += size
    return values


def join(values: Mapping[str, bytes]) -> bytes:
    """Return the properties whose values are ``values``: the inverse of :func:`split`."""
    flags = sum(_BITS[name] for name in values)
    return _FLAGS.pack(flags) + b"".join(values[name] for name in _SIZES if name in values)


def fields(table: bytes | None) -> list[Field]:
    """Return the headers in ``table``, in their order; none if there is no table.

    Raises:
        MalformedProperties: the table is too short, or has a type that RabbitMQ does not know.
    """
    found: list[Field] = []
    offset, end = _LENGTH.size, len(table or b"")
    while table is not None and offset < end:
        named = offset + 1 + table[offset]
        value = named + 1
        kind = _cut(table, named, 1)[0]
        if kind in _LENGTH_PREFIXED:
            size = _LENGTH.size + _number(_LENGTH, table, value)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise MalformedProperties(f"a header of the unknown type {chr(kind)!r}")
        whole = _cut(table, offset, value + size - offset)
        found.append(Field(table[offset + 1 : named], whole))
        offset = value + size
    return found


def table(headers: Iterable[Field]) -> bytes:
    """Return the table of ``headers``: the inverse of :func:`fields`."""
    whole = b"".join(field.whole for field in headers)
    return _LENGTH.pack(len(whole)) + whole


def field(name: str, value: Any) -> Field:
    """Return the header ``name`` with ``value``.

    Raises:
        amqp.exceptions.FrameSyntaxError: ``value`` is of a type that py-amqp cannot write.
    """
    return Field(name.encode(), bytes(dumps("F", ({name: value},)))[_LENGTH.size :])


def _number(kind: Struct, raw: bytes, offset: int) -> int:
    (number,) = kind.unpack(_cut(raw, offset, kind.size))
    return int(number)


def _cut(raw: bytes, offset: int, size: int) -> bytes:
    piece = raw[offset : offset + size]
    if len(piece) < size:
        raise MalformedProperties("properties that are cut off")
    return piece
