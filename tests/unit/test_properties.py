import json
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baozi.amqp import decoding
from baozi.amqp.properties import HEADERS, MalformedProperties, field, fields, join, split, table
from baozi.dead_letters.letter import (
    DIED_AT,
    REASON,
    DeadMessage,
    Original,
    dead_lettered,
    original_properties,
    publishable_properties,
    replayable_properties,
)
from baozi.shown import to_json
from tests.integration.raw_messages import header, properties, short, text

short_texts = st.text(max_size=40)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1)).map(lambda it: it.replace(microsecond=0))
    | st.integers(-1000, 1000).map(lambda it: Decimal(it).scaleb(-2)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short_texts, inner, max_size=3),
    max_leaves=10,
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "content_type": short_texts,
        "content_encoding": short_texts,
        HEADERS: st.dictionaries(short_texts, values, max_size=4),
        "delivery_mode": st.integers(0, 255),
        "priority": st.integers(0, 255),
        "correlation_id": short_texts,
        "reply_to": short_texts,
        "expiration": short_texts,
        "message_id": short_texts,
        "timestamp": st.integers(0, 2**64 - 1),
        "type": short_texts,
        "user_id": short_texts,
        "app_id": short_texts,
        "cluster_id": short_texts,
    },
)


def encoded(of: dict[str, Any]) -> bytes:
    encoder: Any = amqp.Message(**of)
    return bytes(encoder._serialize_properties())


@given(messages)
def test_properties_that_are_split_and_joined_are_the_same_bytes(message: dict[str, Any]) -> None:
    raw = encoded(message)
    parts = split(raw)
    assert join(parts) == raw
    assert set(parts) == set(message)
    if HEADERS in parts:
        assert table(fields(parts[HEADERS])) == parts[HEADERS]
        assert [it.name.decode() for it in fields(parts[HEADERS])] == list(message[HEADERS])


@given(messages, st.text(min_size=1, max_size=2000), st.integers(300, 20_000))
def test_a_letter_of_any_size_and_frame_tells_its_reason_and_gives_its_message_back(
    message: dict[str, Any], reason: str, frame_max: int
) -> None:
    raw = publishable_properties(encoded(message))
    letter = dead_lettered(Original(b"body", raw), {REASON: reason, DIED_AT: 5.0}, frame_max)
    read = DeadMessage.of(delivered(letter.body, letter.properties))
    assert read.reason == reason
    assert read.last_at == 5
    assert read.body == b"body"
    # A table without headers is the one thing that is not kept: it has nothing in it.
    assert split(read.original.properties).keys() | {HEADERS} == split(raw).keys() | {HEADERS}
    assert fields(split(read.original.properties).get(HEADERS)) == fields(split(raw).get(HEADERS))


def delivered(body: bytes, raw: bytes) -> Any:
    return SimpleNamespace(body=body, properties=decoding.properties(raw), delivery_tag=1)


@pytest.mark.parametrize("cut", range(1, 60))
def test_properties_that_are_cut_off_are_reported(cut: int) -> None:
    whole = encoded({"content_type": "a", HEADERS: {"b": 1, "c": "text", "d": {"e": [1]}}, "message_id": "f"})
    assert 40 < len(whole) < 60
    if cut < len(whole):
        with pytest.raises(MalformedProperties):
            fields(split(whole[:cut]).get(HEADERS))


def test_a_replay_removes_only_the_headers_that_dead_lettering_added() -> None:
    own = [text("x-dead", "mine"), header(b"x-\xff", b"s", b"\0\1"), text("x-deathly", "x"), text("id", "1")]
    added = [
        field("x-death", [{"count": 1}]),
        field("x-first-death-queue", "baozi"),
        field("x-delivery-count", 3),
        field("baozi-reason", "rejected"),
    ]
    raw = properties(*own, *added, content_type=short("a"))
    assert original_properties(raw) == properties(*own, content_type=short("a"))


def test_a_replayed_message_has_the_headers_of_its_letter_but_no_retries() -> None:
    own = [text("id", "1"), text("retries-of-mine", "x")]
    raw = properties(*own, field("retries", 4), content_type=short("a"))
    assert replayable_properties(raw) == properties(*own, content_type=short("a"))
    for unchanged in (properties(*own, field("retries", 0)), properties(*own), properties()):
        assert replayable_properties(unchanged) == unchanged
    unreadable = properties(header(b"x", b"?", b""))
    assert replayable_properties(unreadable) == unreadable


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -float("inf")])
def test_a_time_that_is_no_number_is_none(time: float) -> None:
    letter = DeadMessage.of(delivered(b"", properties(field(DIED_AT, time), field("more", [time]))))
    assert letter.last_at is None
    said = to_json({"headers": letter.headers})
    assert json.loads(said, parse_constant=pytest.fail)
