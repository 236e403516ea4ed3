"""A message that py-amqp itself cannot read neither stops a worker nor is lost."""

import struct
from typing import Any

import pytest
from amqp import Message

from baozi.model import Baozi
from tests.integration.place import Place
from tests.unit.test_decoding import nested, table
from tests.waiting import wait_until


class Raw(Message):
    """A message with the properties' own bytes."""

    def __init__(self, raw: bytes, body: bytes) -> None:
        super().__init__(body)
        self._raw = raw

    def _serialize_properties(self) -> bytes:
        return self._raw


def good_headers(number: int) -> bytes:
    task_id = Baozi(run="r", producer="egon", number=number, made_at=1).task_id.encode()
    return b"".join(
        bytes([len(name)]) + name + b"S" + struct.pack(">I", len(text)) + text
        for name, text in ((b"task", b"tasks.eat"), (b"id", task_id), (b"lang", b"py"))
    )


def properties(entries: bytes, content_type: bytes = b"application/json", more: bytes = b"") -> bytes:
    flags = 0x8000 | 0x4000 | 0x2000 | (0x0080 if more else 0)
    table = struct.pack(">I", len(entries)) + entries
    return struct.pack(">H", flags) + bytes([len(content_type)]) + content_type + b"\x05utf-8" + table + more


def body(number: int) -> bytes:
    baozi = f'{{"run": "r", "producer": "egon", "number": {number}, "made_at": 1.5}}'
    return f"[[{baozi}], {{}}, {{}}]".encode()


#: What is added to the headers of a message that is good otherwise; and what else its properties are.
EATEN: dict[str, dict[str, bytes]] = {
    "a time in milliseconds": {"entries": b"\x02atT" + struct.pack(">Q", 1_790_000_000_000)},
    "the last time of all": {"entries": b"\x02atT" + b"\xff" * 8},
    "a time before 1970": {"entries": b"\x02atT" + struct.pack(">q", -5)},
    "a time in a table": {"entries": b"\x02atF" + table(b"at", b"T" + struct.pack(">Q", 1_790_000_000_000))},
    "a name that is not UTF-8": {"entries": b"\x02\xff\xfeV"},
    "a message_id that is not UTF-8": {"more": b"\x02\xff\xfe"},
    "a decimal of the smallest scale": {"entries": b"\x02atD\xff\x7f\xff\xff\xff"},
}
DEAD: dict[str, dict[str, bytes]] = {
    "tables in tables": {"entries": nested(100, b"F")[4:]},
    "many tables in tables": {"entries": nested(10_000, b"F")[4:]},
    "arrays in arrays": {"entries": nested(10_000, b"A")[4:]},
    "a content type that is not UTF-8": {"content_type": b"\xff\xfe"},
}


def send(place: Place, number: int, entries: bytes = b"", **changes: bytes) -> None:
    with place.producer() as producer:
        channel: Any = producer.channel
        raw = properties(good_headers(number) + entries, **changes)
        channel.basic_publish(Raw(raw, body(number)), exchange="baozi", routing_key="baozi", mandatory=True)


@pytest.mark.parametrize("tray", [1, 10])
def test_a_message_that_py_amqp_cannot_read_is_eaten_or_dead_lettered_with_a_reason(
    place: Place, tray: int
) -> None:
    place.produce("other", "alex", 1)
    for number, changes in enumerate([*EATEN.values(), *DEAD.values(), {}, {}, {}]):
        send(place, number, **changes)
    worker = place.worker("小明", tray=tray)
    wait_until(lambda: place.eaten("r") == len(EATEN) + 3, "all that are good to be eaten", 60)
    wait_until(lambda: place.waiting("baozi.dead") == len(DEAD), "all that are bad to be dead", 60)
    wait_until(lambda: place.waiting() == 0, "the queue to be empty", 30)
    assert worker.process.is_running()
    listed = place.run("dead", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("headers cannot be read") == 3
