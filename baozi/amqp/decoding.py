"""Decodes delivered messages. Invalid properties never raise an error.

py-amqp raises for a time after the year 9999, for a text that is not UTF-8, for a table nested some hundred
levels deep, and for a type that it does not know. It raises in the event loop, where the error ends the
worker, and the broker delivers the same message to the next worker. Here such a message is delivered with the
properties that can be read, and :func:`fault` returns the reason, so that the consumer can dead-letter it.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct
from typing import Any

from amqp import Message

#: Levels of tables and arrays within headers. The broker's own ``x-death`` has three. A reader of the headers
#: (JSON, pickle, ``repr``) may use several stack frames for each level.
_DEEPEST = 32

#: Bytes of a method's class and number, and of its arguments other than texts, by py-amqp's letters.
_SIGNATURE = 4
_WIDTHS = {"L": 8, "l": 4, "B": 2, "b": 1}
_FLAGS = Struct(">H")
_LENGTH = Struct(">I")

_HEADERS_FLAG = 0x2000
_OCTET, _LONG_LONG = Struct(">B"), Struct(">Q")
#: Properties before and after the headers: their flags (section 4.2.6.1), names, and types; None is a text.
_BEFORE = ((0x8000, "content_type", None), (0x4000, "content_encoding", None))
_AFTER = (
    (0x1000, "delivery_mode", _OCTET),
    (0x0800, "priority", _OCTET),
    (0x0400, "correlation_id", None),
    (0x0200, "reply_to", None),
    (0x0100, "expiration", None),
    (0x0080, "message_id", None),
    (0x0040, "timestamp", _LONG_LONG),
    (0x0020, "type", None),
    (0x0010, "user_id", None),
    (0x0008, "app_id", None),
    (0x0004, "cluster_id", None),
)


class MalformedValue(ValueError):
    """The bytes are not a valid AMQP value."""


_UNREADABLE = (MalformedValue, struct.error, IndexError)


class Properties(dict[str, Any]):
    """A message's properties, by py-amqp's names, and the bytes that they were decoded from."""

    raw: bytes = b"\0\0"
    """The flags and the values, as the broker sent them."""
    fault: str | None = None
    """Why a part could not be read; None if all could."""


def fault(message: Any) -> str | None:
    """Return why the properties of ``message`` could not be read; None if they could.

    Args:
        message: a message of kombu or py-amqp.
    """
    return getattr(message.properties, "fault", None)


def raw_properties(message: Any) -> bytes | None:
    """Return the properties' bytes as received, flags first; None if the transport is not AMQP."""
    return getattr(message.properties, "raw", None)


class Content(Message):
    """py-amqp's message, whose body stays bytes and whose properties may be invalid."""

    def __init__(self, method: tuple[int, int], arguments: bytes) -> None:
        """Start with the method and its arguments, which arrive before the properties and the body."""
        super().__init__(b"")
        self.frame_method = method
        self.frame_args = arguments

    def __getattr__(self, name: str) -> Any:
        """Hide the properties, which are attributes in py-amqp, so that it does not decode the body.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(name)

    def _load_properties(self, _class: int, frame: bytes, offset: int) -> int:
        self.properties = properties(frame[offset:])
        return len(frame)


def readable_arguments(kinds: str, payload: bytes) -> bytes:
    """Return a method's payload with ``?`` for each byte that is not UTF-8, so that py-amqp can read it.

    Args:
        kinds: the types of its arguments, as py-amqp writes them.
        payload: class, method and arguments.
    """
    offset = _SIGNATURE
    for kind in kinds:
        if kind != "s":
            offset += _WIDTHS[kind]
            continue
        start, offset = offset + 1, offset + 1 + payload[offset]
        text = payload[start:offset]
        if not text.isascii():
            readable = _short(text).encode()
            payload = b"".join((payload[: start - 1], bytes([len(readable)]), readable, payload[offset:]))
            offset = start + len(readable)
    return payload


def properties(raw: bytes) -> Properties:
    """Decode a message's properties.

    Args:
        raw: flags and values.

    Returns:
        All that can be read, in types that py-amqp can write. Names and short texts have ``?`` for what is
        not UTF-8. If the headers cannot be read, there are none, and ``fault`` is the reason.
    """
    found = Properties()
    found.raw = raw
    try:
        (flags,) = _FLAGS.unpack_from(raw)
        offset = _simple(found, raw, flags, _FLAGS.size, _BEFORE)
        if flags & _HEADERS_FLAG:
            start, end = _span(raw, offset, len(raw))
            try:
                found["application_headers"] = _table(raw, start, end, 1)
            except _UNREADABLE as error:
                found["application_headers"] = {}
                found.fault = f"its headers cannot be read: {error}"
            offset = end
        _simple(found, raw, flags, offset, _AFTER)
    except _UNREADABLE as error:
        found.fault = f"its properties cannot be read: {error}"
    return found


def _simple(
    found: Properties, raw: bytes, flags: int, offset: int, which: tuple[tuple[int, str, Struct | None], ...]
) -> int:
    for flag, name, form in which:
        if flags & flag:
            if form is None:
                found[name], offset = _short_text(raw, offset, len(raw))
            else:
                found[name], offset = form.unpack_from(raw, offset)[0], offset + form.size
    return offset


def _short_text(raw: bytes, offset: int, limit: int) -> tuple[str, int]:
    start = offset + 1
    end = start + raw[offset]
    if end > limit:
        raise MalformedValue("it ends in the middle of a text")
    return _short(raw[start:end]), end


def _short(text: bytes) -> str:
    """Return a short text, with ``?`` for what is not UTF-8, so that it never gets longer."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode(errors="replace").replace("\ufffd", "?")


def _span(raw: bytes, offset: int, limit: int) -> tuple[int, int]:
    """Return start and end of the value whose length is at ``offset``."""
    start = offset + _LENGTH.size
    end = start + int(_LENGTH.unpack_from(raw, offset)[0])
    if end > limit:
        raise MalformedValue("it ends in the middle of a value")
    return start, end


def _table(raw: bytes, offset: int, end: int, level: int) -> dict[str, Any]:
    table = {}
    while offset < end:
        name, offset = _short_text(raw, offset, end)
        table[name], offset = _value(raw, offset, end, level)
    return table


def _array(raw: bytes, offset: int, end: int, level: int) -> list[Any]:
    array = []
    while offset < end:
        value, offset = _value(raw, offset, end, level)
        array.append(value)
    return array


def _value(raw: bytes, offset: int, limit: int, level: int) -> tuple[Any, int]:
    kind = raw[offset]
    offset += 1
    value: Any
    if kind in _SPANS:
        start, offset = _span(raw, offset, limit)
        if kind == _TEXT:
            value = _text(raw[start:offset])
        elif kind == _BYTES:
            value = raw[start:offset]
        elif level == _DEEPEST:
            raise MalformedValue(f"it is nested deeper than {_DEEPEST} levels")
        else:
            value = (_table if kind == _TABLE else _array)(raw, start, offset, level + 1)
        return value, offset
    if kind == _VOID:
        return None, offset
    if kind not in _FORMS:
        raise MalformedValue(f"it has a value of the unknown type {bytes([kind])!r}")
    form, convert = _FORMS[kind]
    parts = form.unpack_from(raw, offset)
    offset += form.size
    if offset > limit:
        raise MalformedValue("it ends in the middle of a value")
    return (convert(*parts) if convert else parts[0]), offset


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _time(seconds: int) -> datetime | int:
    """Return UTC without a time zone, as py-amqp does.

    A time that Python cannot represent, or that py-amqp cannot write because it is before 1970, stays a
    number.
    """
    if seconds >= 0:
        with suppress(OverflowError, ValueError, OSError):
            return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return seconds


def _decimal(scale: int, unscaled: int) -> Decimal:
    return Decimal(unscaled).scaleb(-scale)


_TEXT, _BYTES, _TABLE, _ARRAY, _VOID = b"SxFAV"
_SPANS = frozenset(b"SxFA")
#: The other types of a header's value: those of RabbitMQ's errata to AMQP 0-9-1. Where clients use a letter
#: for different types, the type is py-amqp's.
_FORMS: dict[int, tuple[Struct, Callable[..., Any] | None]] = {
    ord(letter): (Struct(form), convert)
    for letter, form, convert in (
        ("t", ">B", bool),
        ("b", ">b", None),
        ("B", ">B", None),
        ("s", ">h", None),
        ("U", ">h", None),
        ("u", ">H", None),
        ("I", ">i", None),
        ("i", ">I", None),
        ("l", ">q", None),
        ("L", ">q", None),
        ("f", ">f", None),
        ("d", ">d", None),
        ("D", ">Bi", _decimal),
        ("T", ">q", _time),
    )
}
