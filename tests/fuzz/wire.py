"""AMQP 0-9-1 by hand: sends any message whose frames the broker takes, and reads back its raw bytes.

py-amqp refuses to encode most of what a fuzzer wants to send, and fails to decode some of it.
"""

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

#: A field's value: its type's letter in a field table, and a Python value.
Value = tuple[str, Any]

_METHOD, _HEADER, _BODY, _HEARTBEAT, _END = 1, 2, 3, 8, b"\xce"
#: Bytes around a frame's payload.
_AROUND = 8
#: Seconds to wait for the broker's answer.
_TIMEOUT = 60
#: Seconds between two repetitions.
_LOOK_EVERY = 0.02
_CHANNEL = 1

#: Properties in the order of their flags, from bit 15 down, each with how it is encoded.
_PROPERTIES = {
    "content_type": "short",
    "content_encoding": "short",
    "headers": "table",
    "delivery_mode": "octet",
    "priority": "octet",
    "correlation_id": "short",
    "reply_to": "short",
    "expiration": "short",
    "message_id": "short",
    "timestamp": "long",
    "type": "short",
    "user_id": "short",
    "app_id": "short",
    "cluster_id": "short",
}

#: How the fields of a fixed size are packed, by their letter.
_FIXED = {
    "t": ">?",
    "b": ">b",
    "B": ">B",
    "s": ">h",
    "U": ">h",
    "u": ">H",
    "I": ">i",
    "i": ">I",
    "l": ">q",
    "L": ">Q",
    "f": ">f",
    "d": ">d",
    "T": ">Q",
}


class Refused(Exception):
    """The broker closed the channel or the connection, or did not take the message: nothing was queued."""


def text(value: str | bytes | tuple[str | bytes, int]) -> bytes:
    """Return the bytes of a string, given as it is or as ``(piece, times)``."""
    if isinstance(value, tuple):
        piece, times = value
        return text(piece) * times
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def field(value: Value) -> bytes:  # noqa: PLR0911  # one return for each type of AMQP
    """Return a typed value as it stands in a field table.

    Besides AMQP's letters there is ``("deep", (letter, depth))``: so many tables or arrays in each other.
    """
    letter, it = value
    if letter in _FIXED:
        number = float(it) if letter in "fd" else it
        return letter.encode() + struct.pack(_FIXED[letter], number)
    if letter in "Sx":
        raw = text(it)
        return letter.encode() + struct.pack(">I", len(raw)) + raw
    if letter == "D":
        return b"D" + struct.pack(">BI", *it)
    if letter == "V":
        return b"V"
    if letter == "A":
        raw = b"".join(field(one) for one in it)
        return b"A" + struct.pack(">I", len(raw)) + raw
    if letter == "F":
        return b"F" + table(it)
    if letter == "deep":
        inner, depth = it
        raw = b"V"
        for _ in range(depth):
            content = b"\x01k" + raw if inner == "F" else raw
            raw = inner.encode() + struct.pack(">I", len(content)) + content
        return raw
    raise ValueError(f"AMQP has no field type {letter!r}")


def table(entries: Sequence[tuple[str | bytes, Value]]) -> bytes:
    """Return a field table; a name may come in it twice."""
    raw = b"".join(_short(name) + field(value) for name, value in entries)
    return struct.pack(">I", len(raw)) + raw


def properties(values: dict[str, Any]) -> bytes:
    """Return the flags and the properties of a message, as they stand in its content header."""
    flags, raw = 0, b""
    for bit, (name, form) in enumerate(_PROPERTIES.items()):
        if name not in values:
            continue
        flags |= 1 << (15 - bit)
        value = values[name]
        if form == "short":
            raw += _short(value)
        elif form == "table":
            raw += table(value)
        else:
            raw += struct.pack(">B" if form == "octet" else ">Q", value)
    return struct.pack(">H", flags) + raw


def read_properties(raw: bytes) -> dict[str, Any]:
    """Return the properties of a message; its headers as a dictionary of typed values."""
    (flags,) = struct.unpack_from(">H", raw)
    at = 2
    found: dict[str, Any] = {}
    for bit, (name, form) in enumerate(_PROPERTIES.items()):
        if not flags & 1 << (15 - bit):
            continue
        if form == "short":
            found[name], at = _read_short(raw, at)
        elif form == "table":
            found[name], at = _read_table(raw, at)
        else:
            size = 1 if form == "octet" else 8
            found[name], at = int.from_bytes(raw[at : at + size], "big"), at + size
    return found


def _read_table(raw: bytes, at: int) -> tuple[dict[bytes, Value], int]:
    (size,) = struct.unpack_from(">I", raw, at)
    at += 4
    end = at + size
    found: dict[bytes, Value] = {}
    while at < end:
        name, at = _read_short(raw, at)
        found[name], at = _read_field(raw, at)
    return found, end


def _read_field(raw: bytes, at: int) -> tuple[Value, int]:
    letter, at = chr(raw[at]), at + 1
    if letter in _FIXED:
        (value,) = struct.unpack_from(_FIXED[letter], raw, at)
        return (letter, value), at + struct.calcsize(_FIXED[letter])
    if letter == "V":
        return (letter, None), at
    if letter == "D":
        return (letter, struct.unpack_from(">BI", raw, at)), at + 5
    # Whatever is inside: its bytes are enough to compare by, and no depth is too much.
    (size,) = struct.unpack_from(">I", raw, at)
    return (letter, raw[at + 4 : at + 4 + size]), at + 4 + size


def first_table(array: bytes) -> dict[bytes, Value]:
    """Return the first table of an array's bytes, as ``x-death`` is."""
    return _read_table(array, 1)[0]


def _short(value: str | bytes) -> bytes:
    raw = text(value)
    return bytes((len(raw),)) + raw


def _read_short(raw: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1 + raw[at]
    return raw[at + 1 : end], end


@dataclass(frozen=True)
class Got:
    """One message as it was read."""

    tag: int
    properties: dict[str, Any]
    body: bytes

    @property
    def headers(self) -> dict[bytes, Value]:
        """Its headers."""
        found: dict[bytes, Value] = self.properties.get("headers", {})
        return found


class Client:
    """One connection with one channel in confirm mode; opened again after the broker has closed it."""

    def __init__(self, url: str) -> None:
        """Connect to ``url``."""
        self._url = urlsplit(url)
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection((self._url.hostname, self._url.port or 5672), _TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._published = 0
        self._socket.sendall(b"AMQP\0\0\x09\x01")
        self._expect(10, 10)
        login = f"\0{unquote(self._url.username or '')}\0{unquote(self._url.password or '')}".encode()
        # Without this capability the broker closes the socket of a wrong message without a word.
        able = [("authentication_failure_close", ("t", True)), ("publisher_confirms", ("t", True))]
        ours = [("connection_name", ("S", "baozi fuzzer")), ("capabilities", ("F", able))]
        answer = table(ours) + _short("PLAIN") + struct.pack(">I", len(login)) + login + _short("en_US")
        self._method(10, 11, answer, channel=0)
        self._channels, self.frame_max, _ = struct.unpack(">HIH", self._expect(10, 30))
        self._method(10, 31, struct.pack(">HIH", self._channels, self.frame_max, 0), channel=0)
        self._method(10, 40, _short(unquote(self._url.path[1:]) or "/") + b"\0\0", channel=0)
        self._expect(10, 41)
        self._open_channel()

    def _open_channel(self) -> None:
        self._published = 0
        self._method(20, 10, b"\0")
        self._expect(20, 11)
        self._method(85, 10, b"\0")
        self._expect(85, 11)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        head: bytes,
        body: bytes,
        frame: int = 0,
    ) -> None:
        """Publish one mandatory message and wait until the broker has confirmed it.

        Args:
            exchange: where to.
            routing_key: by which key.
            head: what :func:`properties` returned.
            body: in frames of ``frame`` bytes; 0 for the largest.
            frame: see ``body``.

        Raises:
            Refused: the broker did not take it.
        """
        most = self.frame_max - _AROUND
        length = min(frame or most, most)
        head_payload = struct.pack(">HHQ", 60, 0, len(body)) + head
        method = struct.pack(">HHH", 60, 40, 0) + _short(exchange) + _short(routing_key) + b"\x01"
        frames = [_frame(_METHOD, method), _frame(_HEADER, head_payload)]
        frames += [_frame(_BODY, body[at : at + length]) for at in range(0, len(body), length)]
        returned = False
        try:
            self._socket.sendall(b"".join(frames))
            while True:
                kind, identity, _ = self._next()
                if kind == _METHOD and identity == (60, 50):  # returned: no queue takes it
                    returned = True
                elif kind == _METHOD and identity in {(60, 80), (60, 120)}:
                    if returned or identity == (60, 120):
                        raise Refused("not queued")
                    return
        except TimeoutError:
            raise  # the message may be queued
        except OSError as error:
            self._connect()
            raise Refused(f"the connection was closed: {error}") from error

    def count(self, queue: str) -> int:
        """Return how many messages are ready in ``queue``; none where there is no such queue."""
        self._method(50, 10, struct.pack(">H", 0) + _short(queue) + b"\x01" + table([]))
        try:
            raw = self._expect(50, 11)
        except Refused:
            return 0
        _, at = _read_short(raw, 0)
        return int(struct.unpack_from(">I", raw, at)[0])

    def all(self, queue: str) -> list[Got]:
        """Return every message that is ready in ``queue``, and leave them there."""
        found = list(self._got(queue))
        if found:
            self._method(60, 120, struct.pack(">QB", 0, 0b11))
            # A quorum queue takes them back some time later.
            deadline = time.monotonic() + _TIMEOUT
            while self.count(queue) < len(found) and time.monotonic() < deadline:
                time.sleep(_LOOK_EVERY)
        return found

    def _got(self, queue: str) -> Iterator[Got]:
        while True:
            self._method(60, 70, struct.pack(">H", 0) + _short(queue) + b"\0")
            _, identity, arguments = self._next()
            if identity == (60, 72):
                return
            tag = struct.unpack_from(">Q", arguments)[0]
            _, _, head = self._next(_HEADER)
            size = struct.unpack_from(">Q", head, 4)[0]
            body = b""
            while len(body) < size:
                body += self._next(_BODY)[2]
            yield Got(tag, read_properties(head[12:]), body)

    def purge(self, queue: str) -> None:
        """Drop every message of ``queue``."""
        self._method(50, 30, struct.pack(">H", 0) + _short(queue) + b"\0")
        self._expect(50, 31)

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._method(10, 50, struct.pack(">H", 200) + _short("") + struct.pack(">HH", 0, 0), channel=0)
            self._expect(10, 51)
        self._socket.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def _method(self, class_id: int, method: int, arguments: bytes, channel: int = _CHANNEL) -> None:
        self._socket.sendall(_frame(_METHOD, struct.pack(">HH", class_id, method) + arguments, channel))

    def _expect(self, class_id: int, method: int) -> bytes:
        while True:
            kind, identity, arguments = self._next()
            if kind == _METHOD and identity == (class_id, method):
                return arguments

    def _next(self, wanted: int | None = None) -> tuple[int, tuple[int, int], bytes]:
        """Return the next frame's kind, its method's class and number, and its payload or arguments.

        Raises:
            Refused: the broker closed the channel, which is open again.
            OSError: it closed the connection.
        """
        while True:
            kind, _, size = struct.unpack(">BHI", self._read(7))
            payload = self._read(size + 1)[:-1]
            if kind == _HEARTBEAT or (wanted is not None and kind != wanted):
                continue
            if kind != _METHOD:
                return kind, (0, 0), payload
            identity = struct.unpack_from(">HH", payload)
            arguments = payload[4:]
            if identity == (20, 40):
                self._method(20, 41, b"")
                self._open_channel()
                raise Refused(_read_short(arguments, 2)[0].decode(errors="replace"))
            if identity == (10, 50):
                self._method(10, 51, b"", channel=0)
                self._socket.close()
                raise OSError(_read_short(arguments, 2)[0].decode(errors="replace"))
            return kind, identity, arguments

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            piece = self._socket.recv(1 << 18)
            if not piece:
                raise ConnectionResetError("the broker closed the socket")
            self._buffer += piece
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def _frame(kind: int, payload: bytes, channel: int = _CHANNEL) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + _END
