"""What the broker delivers becomes a message, whatever bytes its properties are."""

import struct
import time
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.serialization import decode_properties_basic, dumps
from hypothesis import given
from hypothesis import strategies as st

from baozi.amqp.decoding import Properties, fault, properties, raw_properties
from baozi.amqp.reading import frame_handler

HEADERS, MESSAGE_ID = 0x2000, 0x0080

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
#: What py-amqp can write.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(lambda at: at.replace(microsecond=0))
    | st.decimals(-1000, 1000, places=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=20,
)


def table(name: bytes, value: bytes) -> bytes:
    """Return a table of one value, which begins with the letter of its type."""
    entry = bytes([len(name)]) + name + value
    return struct.pack(">I", len(entry)) + entry


def of_headers(headers: bytes, message_id: bytes = b"an id") -> Properties:
    flags = struct.pack(">H", HEADERS | MESSAGE_ID)
    return properties(flags + headers + bytes([len(message_id)]) + message_id)


@given(
    st.dictionaries(TEXTS, VALUES, max_size=5), st.dictionaries(st.sampled_from(["type", "app_id"]), TEXTS)
)
def test_properties_that_py_amqp_can_read_are_read_in_the_same_way(
    headers: dict[str, Any], others: dict[str, str]
) -> None:
    message: Any = Message(
        "", application_headers=headers, timestamp=5, priority=3, delivery_mode=2, **others
    )
    raw = message._serialize_properties()
    found = properties(raw)
    assert found == decode_properties_basic(raw, 0)[0]
    assert found.fault is None
    assert found.raw == raw


@pytest.mark.parametrize("seconds", [253402300800, 1_790_000_000_000, 2**40, 2**62, 2**63 - 1, -1, -(2**63)])
def test_a_time_that_python_does_not_know_stays_a_number_that_can_be_written_again(seconds: int) -> None:
    found = of_headers(table(b"at", b"T" + struct.pack(">q", seconds)))
    assert found["application_headers"] == {"at": seconds}
    assert found.fault is None
    assert dumps("F", (found["application_headers"],))


def test_a_time_of_today_is_a_datetime_in_utc_without_a_time_zone() -> None:
    found = of_headers(table(b"at", b"T" + struct.pack(">Q", 86400)))
    assert found["application_headers"] == {"at": datetime(1970, 1, 2)}


@pytest.mark.parametrize("seconds", [0, 1_790_000_000_000, 2**63, 2**64 - 1])
def test_the_timestamp_of_a_message_may_be_any_number(seconds: int) -> None:
    found = properties(struct.pack(">HQ", 0x0040, seconds))
    assert found == {"timestamp": seconds}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xff", -1),
        (b"U\xff\xff", -1),
        (b"u\xff\xff", 65535),
        (b"i\xff\xff\xff\xff", 2**32 - 1),
        (b"l" + b"\xff" * 8, -1),
        (b"L" + b"\xff" * 8, -1),
        (b"x\0\0\0\x02\0\xff", b"\0\xff"),
        (b"S\0\0\0\x01\xff", b"\xff"),
        (b"D\xff\x7f\xff\xff\xff", Decimal("2147483647e-255")),
        (b"V", None),
        (b"A\0\0\0\0", []),
    ],
)
def test_a_value_of_each_type_is_read_and_can_be_written_again(value: bytes, read: object) -> None:
    found = of_headers(table(b"it", value))
    assert found["application_headers"] == {"it": read}
    again = properties(struct.pack(">H", HEADERS) + dumps("F", (found["application_headers"],)))
    assert again["application_headers"] == {"it": read}


def nested(depth: int, kind: bytes) -> bytes:
    value = b"V"
    for _ in range(depth):
        inside = (b"\x01k" if kind == b"F" else b"") + value
        value = kind + struct.pack(">I", len(inside)) + inside
    return table(b"it", value)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (table(b"it", b"?"), "unknown type b'?'"),
        (table(b"it", b"\xff"), "unknown type b'\\xff'"),
        (table(b"it", b"A\0\0\0\x01Z"), "unknown type b'Z'"),
        (table(b"it", b"I\0"), "ends in the middle"),
        (table(b"it", b"S\xff\xff\xff\xffabc"), "ends in the middle"),
        (table(b"it", b"F\0\0\0\x09"), "ends in the middle"),
        (table(b"it", b"F\0\0\0\x02\x09x"), "ends in the middle"),
        (b"\0\0\0\x01\x09", "ends in the middle"),
        (b"\0\0\0\x02\x01a", "its headers cannot be read"),
        (nested(100, b"F"), "nested deeper"),
        (nested(15_000, b"F"), "nested deeper"),
        (nested(15_000, b"A"), "nested deeper"),
    ],
)
def test_unreadable_headers_are_left_out_with_the_reason(headers: bytes, reason: str) -> None:
    found = of_headers(headers)
    assert found["application_headers"] == {}
    assert found["message_id"] == "an id"
    assert "its headers cannot be read" in str(found.fault)
    assert reason in str(found.fault)


@pytest.mark.parametrize(
    "raw", [b"", b"\x80", b"\x80\0", b"\x80\0\x05text", b"\x20\0\0\0", b"\x20\0\xff\xff\xff\xff", b"\0\x40\0"]
)
def test_properties_that_end_too_early_are_an_error(raw: bytes) -> None:
    assert "its properties cannot be read" in str(properties(raw).fault)


def test_a_text_that_is_not_utf_8_is_no_longer_than_it_was() -> None:
    found = of_headers(table(b"\xff" * 255, b"V"), b"\xffid\xc3" + b"\xff" * 251)
    assert found["application_headers"] == {"?" * 255: None}
    assert found["message_id"] == "?id?" + "?" * 251
    assert found.fault is None


@given(st.binary(max_size=200))
def test_no_bytes_raise(raw: bytes) -> None:
    assert properties(raw).raw == raw


@given(st.binary(max_size=200))
def test_no_headers_raise(raw: bytes) -> None:
    found = of_headers(struct.pack(">I", len(raw)) + raw)
    assert dumps("F", (found["application_headers"],))
    assert found["message_id"] == "an id"


class Arrived:
    """A connection, as far as a frame handler needs one, and what came over it."""

    bytes_recv = 0
    channels = (1,)

    def __init__(self) -> None:
        self.transport = SimpleNamespace()
        self.came: list[tuple[Any, ...]] = []
        self._handle = frame_handler(self, lambda *method: self.came.append(method))

    def deliver(self, key: bytes, header: bytes, body: bytes) -> Any:
        payload = struct.pack(">HH", 60, 60) + b"\x03tag" + struct.pack(">QB", 200, 0)
        payload += b"\x05baozi" + bytes([len(key)]) + key
        self._handle((1, 1, payload))
        self._handle((2, 1, struct.pack(">HHQ", 60, 0, len(body)) + header))
        if body:
            self._handle((3, 1, body))
        [(_channel, _signature, arguments, content)] = self.came
        return arguments, content


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", "包子".encode("utf-16")])
def test_a_body_stays_the_bytes_that_came(body: bytes) -> None:
    _, content = Arrived().deliver(b"baozi", b"\x40\0\x06utf-16", body)
    assert content.body == body
    assert content.properties == {"content_encoding": "utf-16"}
    assert not hasattr(content, "content_encoding")  # or py-amqp decodes the body


def test_a_routing_key_that_is_not_utf_8_is_readable() -> None:
    arguments, _ = Arrived().deliver(b"\xff\xfe" + b"\xff" * 253, b"\0\0", b"")
    assert arguments.endswith(b"\xff" + b"?" * 255)
    assert len(arguments) == 4 + 4 + 9 + 6 + 256


def test_a_routing_key_in_chinese_stays_as_it_is() -> None:
    arguments, _ = Arrived().deliver("包子".encode(), b"\0\0", b"")
    assert arguments.endswith("\x06包子".encode())


def test_the_reason_and_the_bytes_are_found_on_the_message() -> None:
    raw = struct.pack(">H", HEADERS) + table(b"it", b"?")
    _, content = Arrived().deliver(b"baozi", raw, b"{}")
    assert "unknown type" in str(fault(content))
    assert raw_properties(content) == raw


def test_the_largest_headers_are_read_in_a_moment() -> None:
    many = b"\x01kV" * 40_000
    begun = time.process_time()
    of_headers(struct.pack(">I", len(many)) + many)
    of_headers(nested(18_000, b"F"))
    assert time.process_time() - begun < 5
