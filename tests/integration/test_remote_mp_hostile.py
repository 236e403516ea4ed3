"""remote_mp: after any message of another client, the next item is delivered."""

import json
import queue
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from baozi.amqp.connection import connect
from baozi.amqp.decoding import raw_properties
from baozi.amqp.properties import HEADERS, fields, join, split
from remote_mp import JoinableQueue, Queue, Unreadable
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.integration.remote_queues import send_raw
from tests.waiting import wait_until


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def table(*entries: bytes) -> bytes:
    return struct.pack(">I", sum(map(len, entries))) + b"".join(entries)


def long(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def header(value: bytes, name: bytes = b"at") -> dict[str, bytes]:
    return {HEADERS: table(short(name) + value)}


def nested(levels: int, kind: bytes) -> bytes:
    value = b"V"
    for _ in range(levels):
        value = kind + (table(short(b"") + value) if kind == b"F" else long(value))
    return value


def time_of(seconds: int) -> bytes:
    return b"T" + struct.pack(">Q", seconds % 2**64)


JSON = short(b"application/json")
GOOD = b'["an item"]'
TIMES = [
    0,
    -1,
    1_732_500_000_000,
    1_732_500_000_000_000,
    253_402_300_799,
    253_402_300_800,
    2**63 - 1,
    -(2**63),
]
#: Values of a header that do not prevent reading the item.
READABLE_HEADERS = [
    *map(time_of, TIMES),
    *(b"F" + table(short(b"t") + time_of(at)) for at in TIMES),
    *(b"A" + long(time_of(at)) for at in TIMES),
    *(b"S" + long(text) for text in (b"", b"\xff\xfe", "包子".encode(), b"\x1b[31m\r\n\0", b"\xed\xa0\x80")),
    *(b"x" + long(text) for text in (b"", b"\0\xff")),
    *(
        b"D" + bytes([scale]) + number
        for scale in (0, 9, 255)
        for number in (b"\x7f\xff\xff\xff", b"\x80\0\0\0")
    ),
    *(b"d" + struct.pack(">d", number) for number in (float("nan"), float("inf"), -0.0, 1e308)),
    *(b"f" + struct.pack(">f", number) for number in (float("nan"), float("-inf"))),
    *(
        kind + b"\xff" * size
        for kind, size in ((b"b", 1), (b"B", 1), (b"s", 2), (b"u", 2), (b"I", 4), (b"i", 4))
    ),
    *(b"l" + number for number in (b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7)),
    *(b"t\1", b"t\0", b"V"),
    *(nested(levels, kind) for levels in (1, 20) for kind in (b"F", b"A")),
]
#: Values that make all headers unreadable.
UNREADABLE_HEADERS = [nested(levels, kind) for levels in (33, 100, 400, 900, 2000) for kind in (b"F", b"A")]
READABLE_TABLES = [
    table(),
    table(short(b"\xff" * 255) + b"V"),
    table(short(b"") + b"V"),
    table(*[short(b"same") + b"t\1"] * 2),
    table(*(short(b"%d" % number) + b"V" for number in range(10_000))),
    table(short(b"large") + b"S" + long(b"x" * 120_000)),
    table(short(b"baozi-reason") + b"S" + long(b"of an earlier time")),
]
#: Other properties that do not prevent reading the item.
PROPERTIES: list[dict[str, bytes]] = [
    {},
    *({"timestamp": struct.pack(">Q", at % 2**64)} for at in TIMES),
    *({name: short(b"\xff\xfe")} for name in ("content_encoding", "correlation_id", "type", "app_id")),
    *({"content_encoding": short(text)} for text in (b"utf-16", b"gzip", b"no such", b"binary", b"x" * 255)),
    *({"message_id": short(text)} for text in (b"", b"-", b"x-", b"x--1", b"\xff-1", b"a-" + b"9" * 253)),
    *({"message_id": short(text.encode())} for text in ("x-²", "x-١", "x-1.5", "-7", "x- 1", "x-1\n")),
    *(
        {"reply_to": short(text)}
        for text in (b"", b"no such queue", b"remote_mp.q.q", b"remote_mp.dead", b"\xff")
    ),
    *(
        {"reply_to": short(text)}
        for text in (b"remote_mp.done.", b"remote_mp.done.\xff", b"amq.rabbitmq.reply-to.x")
    ),
    *({"message_id": short(b"x-1"), "reply_to": short(b"remote_mp.done." + b"n" * 240)},),
    *({"delivery_mode": bytes([mode])} for mode in (0, 1, 3, 255)),
    {"expiration": short(b"86400000")},
]
CONTENT_TYPES = [
    *(b"", b"text/plain", b"application/x-python-serialize", b"application/data", b"\xff", b"x" * 255),
    *(b"application/JSON\0", b" application/json", "应用".encode()),
]
BODIES = [
    *(b"", b"no JSON", b"{}", b"[]", b"1", b"null", b"[1", b"[1]]", b"[NaN]", b"\xff\xfe", b"\x80\x04."),
    *(
        b"[" * 100_000,
        b'[{"a":' * 50_000,
        b"[1" + b"0" * 5000 + b"]",
        b'["\xff"]',
        b"\x1f\x8b\x08\0",
        b"\0" * 300_000,
    ),
    *('["包"]'.encode("gb18030"), "[é]".encode("latin-1")),
]

Message = tuple[Mapping[str, bytes], bytes]
DELIVERED: list[Message] = [
    *(({"content_type": JSON} | header(value), GOOD) for value in READABLE_HEADERS),
    *(({"content_type": JSON, HEADERS: headers}, GOOD) for headers in READABLE_TABLES),
    *(({"content_type": JSON} | more, GOOD) for more in PROPERTIES),
    *(
        ({"content_type": JSON}, body)
        for body in (b'[{"a": [1.5, null]}]', '["包"]'.encode("utf-16"), b" [1]\n")
    ),
]
UNREADABLE: list[Message] = [
    *(({"content_type": JSON} | header(value), GOOD) for value in UNREADABLE_HEADERS),
    *(({"content_type": short(kind)}, GOOD) for kind in CONTENT_TYPES),
    *(({}, body) for body in (b"", GOOD)),
    *(({"content_type": JSON}, body) for body in BODIES),
    *((more, GOOD) for more in PROPERTIES),
    *((header(value), GOOD) for value in READABLE_HEADERS),
    *(({HEADERS: headers}, b"") for headers in READABLE_TABLES),
]


def get_past_unreadable(q: Any) -> tuple[object, int]:
    """Return the next item, and how many messages before it were not items."""
    unreadable = 0
    while True:
        try:
            return q.get(timeout=30), unreadable
        except Unreadable:
            unreadable += 1


@pytest.mark.parametrize("maxsize", [0, 1000])
@pytest.mark.parametrize("cls", [JoinableQueue, Queue])
@pytest.mark.parametrize("messages", [DELIVERED, UNREADABLE], ids=["delivered", "unreadable"])
def test_the_item_after_each_message_is_delivered(
    messages: list[Message], cls: Any, maxsize: int, make_queue: Callable[..., Any], place: Place
) -> None:
    q = make_queue(maxsize, cls=cls)
    q.put("before")
    assert q.get(timeout=30) == "before"
    if cls is JoinableQueue:
        q.task_done()
    dead_letters = 0
    sent: list[Message] = []
    with send_raw(place.url) as send:
        for properties, body in messages:
            if send("remote_mp.q.q", join(properties), body):
                q.put(len(sent))
                sent.append((properties, body))
    assert len(sent) > 0.8 * len(messages), "the broker refuses too many"
    for number, (_, body) in enumerate(sent):
        came, unreadable = get_past_unreadable(q)
        if messages is DELIVERED:
            assert [came] == json.loads(body), number
            if cls is JoinableQueue:
                q.task_done()
            came, unreadable = get_past_unreadable(q)
            assert unreadable == 0, number
        else:
            assert unreadable == 1, number
        assert came == number
        dead_letters += unreadable
        if cls is JoinableQueue:
            q.task_done()
    if cls is JoinableQueue:
        q.join(60)
    wait_until(lambda: queue_state(place.url, "remote_mp.dead")[0] == dead_letters, "all dead letters", 60)
    q.close()
    q.join_thread()
    assert queue_state(place.url, "remote_mp.q.q")[0] == 0, "a message was redelivered"
    check_dead_letters(place, sent if dead_letters else [])


@pytest.mark.parametrize("maxsize", [0, 1000])
@pytest.mark.parametrize("cls", [JoinableQueue, Queue])
@pytest.mark.parametrize("level", [0, 4, 5, 9, 255])
def test_a_message_with_a_priority_and_its_neighbours_are_delivered(
    level: int, cls: Any, maxsize: int, make_queue: Callable[..., Any], place: Place
) -> None:
    """The broker decides in which order: from 4.0 on, a quorum queue delivers some priorities earlier."""
    q = make_queue(maxsize, cls=cls)
    q.put("before")
    priority = {"priority": bytes([level])}
    with send_raw(place.url) as send:
        assert send("remote_mp.q.q", join({"content_type": JSON} | priority), GOOD)
        assert send("remote_mp.q.q", join(priority), b"no item")
    q.put("behind")
    came, unreadable = zip(*(get_past_unreadable(q) for _ in range(3)), strict=True)
    assert sorted(came) == ["an item", "before", "behind"]
    for _ in came if cls is JoinableQueue else ():
        q.task_done()
    with suppress(Unreadable, queue.Empty):
        q.get(timeout=0.5)  # if the bad message comes last
    assert sum(unreadable) <= 1
    wait_until(lambda: queue_state(place.url, "remote_mp.dead")[0] == 1, "the dead letter", 60)
    check_dead_letters(place, [(priority, b"no item")])


def check_dead_letters(place: Place, sent: list[Message]) -> None:
    """Check that the dead letters are the messages that were sent, plus a reason."""
    with connect("a test", url=place.url) as connection:
        channel: Any = connection.default_channel
        for properties, body in sent:
            message = channel.basic_get("remote_mp.dead", no_ack=True)
            kept = split(raw_properties(message) or b"")
            wanted = {**properties, "delivery_mode": b"\2"}
            wanted.pop("expiration", None)
            assert {name: it for name, it in kept.items() if name != HEADERS} == {
                name: it for name, it in wanted.items() if name != HEADERS
            }
            # The broker adds headers of its own, and sorts the headers.
            mine = [it for it in fields(kept[HEADERS]) if not it.name.startswith(b"x-")]
            [reason] = (it for it in mine if it.name == b"baozi-reason")
            headers = [it for it in mine if it is not reason]
            assert len(reason.whole) > 20
            came_with = {field.whole for field in fields(properties.get(HEADERS))}
            assert {field.whole for field in headers} == {
                whole for whole in came_with if not whole.startswith(short(b"baozi-reason"))
            }
            assert (message.body or b"") == body
        assert channel.basic_get("remote_mp.dead", no_ack=True) is None


def test_headers_for_which_the_reason_leaves_no_room_are_left_out_and_counted(
    make_queue: Callable[..., Any], place: Place
) -> None:
    q = make_queue(cls=Queue)
    q.put("before")
    headers = table(*(short(b"%d" % number) + b"S" + long(b"x" * 13_000) for number in range(10)))
    with send_raw(place.url) as send:
        # As many bytes as fit into one frame: AMQP does not divide headers.
        fill = 131_072 - 8 - 12 - len(join({HEADERS: headers})) - 7
        headers = table(headers[4:], short(b"f") + b"S" + long(b"x" * fill))
        send("remote_mp.q.q", join({HEADERS: headers}), b"no item")
    q.put("behind")
    assert get_past_unreadable(q) == ("before", 0)
    assert get_past_unreadable(q) == ("behind", 1)
    wait_until(lambda: queue_state(place.url, "remote_mp.dead")[0] == 1, "the dead letter")
    with connect("a test", url=place.url) as connection:
        channel: Any = connection.default_channel
        message = channel.basic_get("remote_mp.dead", no_ack=True)
    assert "1 of its headers are left out" in message.headers["baozi-reason"]
    assert message.headers["0"] == "x" * 13_000


@pytest.mark.parametrize("maxsize", [0, 3])
def test_headers_that_would_block_the_broker_are_left_out_and_counted(
    maxsize: int, make_queue: Callable[..., Any], place: Place
) -> None:
    q = make_queue(maxsize, cls=Queue)
    q.put("before")
    headers = table(short(b"deep") + nested(9000, b"F"), short(b"short") + b"t\1")
    with send_raw(place.url) as send:
        send("remote_mp.q.q", join({HEADERS: headers}), b"no item")
    q.put("behind")
    assert get_past_unreadable(q) == ("before", 0)
    assert get_past_unreadable(q)[0] == "behind"
    wait_until(lambda: queue_state(place.url, "remote_mp.dead")[0] > 0, "the dead letter", 60)
    with connect("a test", url=place.url) as connection:
        channel: Any = connection.default_channel
        message = channel.basic_get("remote_mp.dead", no_ack=True)
    assert "1 of its headers are left out" in message.headers["baozi-reason"]
    assert message.headers["short"] is True


def test_a_message_whose_routing_key_is_not_utf_8_is_read(
    make_queue: Callable[..., Any], place: Place
) -> None:
    q = make_queue(cls=Queue)
    q.put("before")
    with connect("a test", url=place.url) as connection:
        channel: Any = connection.default_channel
        channel.queue_bind("remote_mp.q.q", "amq.fanout", "")
    with send_raw(place.url) as send:
        for key in (b"\xff\xfe", b"\xff" * 255, "包子".encode()):
            send(key, join({"content_type": JSON}), GOOD, "amq.fanout")
            send(key, join({}), GOOD, "amq.fanout")
    q.put("behind")
    assert get_past_unreadable(q) == ("before", 0)
    for _ in range(3):
        assert get_past_unreadable(q)[0] == "an item"
    assert get_past_unreadable(q) == ("behind", 1)


def test_a_message_of_another_user_becomes_a_dead_letter(
    make_queue: Callable[..., Any], place: Place
) -> None:
    other = place.node.make_user(f"u-{place.virtual_host}", place.virtual_host, ".*", ".*", ".*")
    make_queue(cls=Queue).put("before")
    name = place.url.split("//")[1].split(":")[0].encode()
    with send_raw(place.url) as send:
        send("remote_mp.q.q", join({"user_id": short(name), "expiration": short(b"600000")}), b"no item")
    q = make_queue(cls=Queue, url=other)
    q.put("behind")
    assert get_past_unreadable(q) == ("before", 0)
    assert get_past_unreadable(q) == ("behind", 1)
    wait_until(lambda: queue_state(place.url, "remote_mp.dead")[0] == 1, "the dead letter")


def test_a_dead_letter_is_not_copied_to_the_queues_that_its_headers_name(
    make_queue: Callable[..., Any], place: Place
) -> None:
    q, other = make_queue(cls=Queue), make_queue(cls=Queue, name="other")
    q.put("before")
    other.put("its own")
    copies = {HEADERS: table(short(b"CC") + b"A" + long(b"S" + long(b"remote_mp.q.other")))}
    with send_raw(place.url) as send:
        send("remote_mp.q.q", join(copies | {"content_type": short(b"text/plain")}), b"no item")
    q.put("behind")
    assert get_past_unreadable(q) == ("before", 0)
    assert get_past_unreadable(q) == ("behind", 1)
    wait_until(lambda: queue_state(place.url, "remote_mp.dead")[0] == 1, "the dead letter")
    assert other.get(timeout=30) == "its own"
    with pytest.raises(Unreadable):
        other.get(timeout=30)
    with pytest.raises(queue.Empty):
        other.get(timeout=0.5)


def test_the_queue_of_dead_letters_is_declared_again_after_it_was_deleted(
    make_queue: Callable[..., Any], place: Place
) -> None:
    q = make_queue(cls=Queue)
    q.put("before")
    assert q.get(timeout=30) == "before"
    with connect("a test", url=place.url) as connection:
        channel: Any = connection.default_channel
        channel.queue_delete("remote_mp.dead")
    with send_raw(place.url) as send:
        send("remote_mp.q.q", join({}), b"no item")
    q.put("behind")
    assert get_past_unreadable(q)[0] == "behind"

    def is_dead_letter() -> bool:
        with suppress(Unreadable, queue.Empty):
            q.get(timeout=1)  # it was redelivered, and the queue was declared again
        return queue_state(place.url, "remote_mp.dead")[0] == 1

    wait_until(is_dead_letter, "the dead letter", 60)


BAD_NOTICES = [
    *(
        b"",
        b"no JSON",
        b"{}",
        b"1",
        b'"text"',
        b"null",
        b'["0"]',
        b"[[0]]",
        b"[{}]",
        b"[null, 0.5]",
        b"[" * 50_000,
    ),
    *(b"[1e999]", b"[9" + b"9" * 5000 + b"]", b"\xff", b"[-1]", b"[true]", b"[" + b"1," * 100_000 + b"1]"),
]


def test_no_bad_done_notice_ends_the_thread_that_reads_it(
    make_queue: Callable[..., Any], place: Place
) -> None:
    q, eater = make_queue(), make_queue()
    q.put("first")
    q.put("second")
    with connect("a test", url=place.url) as connection:
        channel: Any = connection.default_channel
        address = channel.basic_get("remote_mp.q.q").properties["reply_to"]
    with send_raw(place.url) as send:
        for notice in BAD_NOTICES:
            send(address, join({}), notice)
            send(address, join(header(time_of(2**63)) | {"content_type": short(b"\xff")}), notice)
    wait_until(lambda: queue_state(place.url, address)[0] == 0, "the notices to be read")
    for _ in range(2):
        eater.get(timeout=30)
        eater.task_done()
    q.join(30)


def test_done_notices_for_many_items_are_small(make_queue: Callable[..., Any], place: Place) -> None:
    q, eater = make_queue(window=5000), make_queue()
    for number in range(3000):
        q.put(number)
    for _ in range(3000):
        eater.get(timeout=30)
    address = next(
        one["name"]
        for one in place.node.api("GET", f"queues/{place.virtual_host}")
        if ".done." in one["name"]
    )
    with connect("a test", url=place.url) as connection:
        channel: Any = connection.default_channel
        channel.queue_declare("trace", durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        notices: list[list[int]] = []
        # RabbitMQ's tracing: a copy of each message that is published.
        channel.queue_bind("trace", "amq.rabbitmq.trace", "publish.#")
        place.node.control("trace_on", "--vhost", place.virtual_host)
        for _ in range(3000):
            eater.task_done()
        q.join(60)
        place.node.control("trace_off", "--vhost", place.virtual_host)
        deadline = time.monotonic() + 30
        while sum(len(one) for one in notices) < 3000 and time.monotonic() < deadline:
            if (message := channel.basic_get("trace", no_ack=True)) is not None:
                notices.append(json.loads(message.body))
    assert address
    assert sorted(number for numbers in notices for number in numbers) == list(range(3000))
    assert max(len(one) for one in notices) <= 100
