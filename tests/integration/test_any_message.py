"""No message stops a worker, occupies it or vanishes: each is eaten, or dead with its reason."""

import bz2
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import amqp
import psutil
import pytest

from baozi.dead_letters import queue as dead_letters
from baozi.dead_letters.letter import DeadMessage
from baozi.model import Baozi
from tests.integration.place import Place, pool_children
from tests.waiting import wait_until

#: Bytes that a worker's main process may need more, whatever comes.
MEMORY = 200_000_000


def baozi(number: int, run: str = "bad") -> dict[str, Any]:
    return Baozi(run=run, producer="egon", number=number, made_at=1.0).model_dump()


EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "tasks.eat",
    "id": "some-id",
    "argsrepr": "",
    "kwargsrepr": "",
}
SIGNATURE: dict[str, Any] = {
    "task": "tasks.eat",
    "args": [],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
}


#: Bytes of a message's properties, for which RabbitMQ has one frame.
LONGEST_PROPERTIES = 131_072 - 8 - 12


def size(message: Any) -> int:
    return len(message._serialize_properties())


def always(value: Any) -> Callable[[int], Any]:
    return lambda _: value


def followed_by(embed: object) -> Callable[[int], Any]:
    return lambda number: [[baozi(number)], {}, embed]


def in_protocol_1(more: dict[str, Any]) -> Callable[[int], Any]:
    return lambda number: {"task": "tasks.eat", "id": "x", "args": [baozi(number)], **more}


def encoded(encoding: str) -> Callable[[bytes], bytes]:
    return lambda raw: raw.decode().encode(encoding)


class Sent:
    """One message, good but for what is changed."""

    def __init__(
        self,
        headers: dict[str, Any] | None = None,
        without: str = "",
        body: Callable[[int], Any] = lambda number: [[baozi(number)], {}, EMBED],
        encode: Callable[[bytes], bytes] = bytes,
        eaten: bool = False,
        reason: str = "",
        free: int | None = None,
        **properties: Any,
    ) -> None:
        self.headers = {name: it for name, it in {**HEADERS, **(headers or {})}.items() if name != without}
        self.body = body
        self.encode = encode
        self.eaten = eaten
        self.reason = reason
        self.free = free
        self.properties = {"content_type": "application/json", "content_encoding": "utf-8", **properties}

    def send(self, channel: Any, number: int, name: str) -> None:
        body = self.body(number)
        raw = self.encode(body if isinstance(body, bytes) else json.dumps(body).encode())
        headers = {**self.headers, "sent-as": name}
        if self.free is not None:
            headers["filling"] = ""
            headers["filling"] = "x" * (LONGEST_PROPERTIES - self.free - size(self.message(raw, headers)))
        message = self.message(raw, headers)
        channel.basic_publish(message, exchange="baozi", routing_key="baozi", mandatory=True)

    def message(self, raw: bytes, headers: dict[str, Any]) -> Any:
        given = {it: value for it, value in self.properties.items() if value is not None}
        return amqp.Message(raw, application_headers=headers, delivery_mode=2, **given)


def header(name: str, *values: object, **options: Any) -> dict[str, Sent]:
    return {f"{name}: {value!r:.40}": Sent({name: value}, **options) for value in values}


def embedded(name: str, *values: object, **options: Any) -> dict[str, Sent]:
    return {
        f"{name} in the body: {value!r:.60}": Sent(body=followed_by({**EMBED, name: value}), **options)
        for value in values
    }


def body(name: str, make: Callable[[int], Any], **options: Any) -> dict[str, Sent]:
    return {name: Sent(body=make, **options)}


def at(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat()


#: Bodies, and third parts of a body, that no Celery client sends.
BODIES: list[Any] = [None, 5, "x", [], {}, [[]], [[], {}], [[], {}, {}, {}], ["args", {}, {}], [{}, [], {}]]
EMBEDS: list[Any] = [5, "x", ["x"], {"get": "x"}, {"id": 5}, {"delivery_info": None}, {"task": []}, {"x": 1}]

#: Not a text.
ODD: list[object] = [
    5,
    -1,
    True,
    ["x"],
    [],
    {},
    {"x": {"y": []}},
    2.5,
    Decimal(1),
    b"\xff",
    datetime(2026, 1, 1),
]
NO_COUNT: list[object] = ["x", "", -1, True, [], [None], {}, 1.5, Decimal(3)]

MESSAGES: dict[str, Sent] = {
    # Headers of another type than Celery's clients send.
    **header(
        "task", *ODD, "", "tasks.drink", "tasks.bury", "celery.map", "celery.backend_cleanup", "x" * 9000
    ),
    **header("id", *ODD, "", "\x1b[31m", "a\nb", "\u202e", "x" * 300),
    **header("root_id", *ODD, ""),
    **header("parent_id", *ODD),
    **header("group", *ODD),
    **header("shadow", *ODD, "\x1b]0;forged\x07"),
    **header("lang", *ODD),
    **header("meth", *ODD),
    **header("origin", *ODD),
    **header("argsrepr", *ODD),
    **header("kwargsrepr", *ODD),
    **header("eta", 5, True, ["x"], {}, 2.5, "soon", "2026-13-01T00:00:00", "2026-01-01T00:00:00+99:99"),
    **header("expires", 5, True, ["x"], {}, 2.5, "soon", "0000-00-00", "9" * 500),
    **header("retries", *NO_COUNT),
    **header("group_index", *NO_COUNT),
    **header("replaced_task_nesting", *NO_COUNT),
    **header("timelimit", [None], "x", 5, ["x", "y"], [1, 2, 3], [], {}, [-1, None], [True, 1]),
    **header("timelimit", [[1], {}], [None, b"\xff"], [Decimal(1), None]),
    **header("ignore_result", 0, 1, "x", [], {}, 2.5),
    **header("stamped_headers", 5, "x", True, [5], [["x"]], {"x": 1}, [None]),
    **header("stamps", 5, "x", True, ["x"], [["x", 1]]),
    **header("headers", 5, "x", ["x"], True),
    **header("utc", 5, "x", []),
    **header("compression", "zstd", "nothing", 5, ["gzip"], {"x": 1}, True, "gzip", "bzip2", "lzma"),
    "no id": Sent(without="id"),
    "no task": Sent(without="task"),
    # Headers that Celery's client does not send, or as it sends them.
    **header("id", "小明", "x" * 255, eaten=True),
    **header("shadow", None, "小明's", eaten=True),
    **header("retries", None, 0, 3, 2**62, eaten=True),
    **header("timelimit", None, [None, None], [30, 20], [9e9, 9e9], [2**62, 2**62], [0, 0.0], eaten=True),
    **header(
        "eta", None, "", "2020-01-01T00:00:00", "2020-01-01T00:00:00+00:00", datetime(2020, 1, 1), eaten=True
    ),
    **header("expires", None, "", at(hours=1), at(days=100_000), datetime(2200, 1, 1), eaten=True),
    **header("stamped_headers", None, [], ["x"], eaten=True),
    **header("stamps", None, {}, {"x": ["y"]}, eaten=True),
    **header("compression", None, "", eaten=True),
    **header("x-delivery-count", -5, 2**62, 2**63 - 1, "x", [], eaten=True),
    **header("x-acquired-count", -5, 2**62, 2**63 - 1, "x", [], eaten=True),
    **header("x-death", 5, "x", [], [{"time": 5}], {"count": "x"}, eaten=True),
    **{
        f"a header named {name}": Sent({name: value}, eaten=True)
        for name in (
            "get",
            "update",
            "args",
            "kwargs",
            "callbacks",
            "chain",
            "chord",
            "errbacks",
            "properties",
        )
        for value in ("x",)
    },
    **{
        f"another header named {name}": Sent({name: {"x": [1]}}, eaten=True)
        for name in (
            "delivery_info",
            "hostname",
            "is_eager",
            "_protected",
            "children",
            "correlation_id",
            "clear",
        )
    },
    "hundreds of headers": Sent({f"x-{number}": "x" * 100 for number in range(500)}, eaten=True),
    # Times.
    **header("expires", "2020-01-01T00:00:00", "2020-01-01T00:00:00+00:00", at(seconds=-2), reason="expired"),
    **header("eta", "2099-01-01T00:00:00", "9999-12-31T23:59:59", at(days=4000), reason="ETA"),
    # Nothing that Celery should read, large or small.
    "465 bytes that are 300 MB": Sent(
        {"compression": "bzip2"}, encode=lambda _: bz2.compress(bytes(300_000_000))
    ),
    "300 KB that are 300 MB": Sent(
        {"compression": "gzip"}, encode=lambda _: zlib.compress(bytes(300_000_000))
    ),
    "45 KB that are 300 MB": Sent(
        {"compression": "lzma"}, encode=lambda _: lzma.compress(bytes(300_000_000))
    ),
    "headers of 120 KB": Sent({"filling": "x" * 120_000, "eta": 5}),
    **{
        f"{free} bytes free in 128 KiB": Sent({"eta": 5}, free=free)
        for free in (0, 1, 50, 100, 200, 500, 5000)
    },
    "headers of nearly 128 KiB": Sent({"filling": "x" * 130_500, "eta": 5}),
    "many headers of 128 KiB": Sent({f"x-{number}": "x" * 100 for number in range(1160)} | {"eta": 5}),
    "an argument's text of 128 KiB": Sent({"argsrepr": "x" * 130_500}, eaten=True),
    "a million empty tables": Sent(body=lambda _: b"[" + b"{}," * 1_000_000 + b"{}]"),
    "a million times open": Sent(body=lambda _: b"[" * 1_000_000),
    "nested as deep as can be": Sent(body=lambda _: b"[" * 20_000 + b"]" * 20_000),
    "10 MB": Sent(body=lambda _: [["x" * 10_000_000], {}, EMBED]),
    "nothing": Sent(body=lambda _: b""),
    "a number of 10,000 digits": Sent(body=lambda _: b"[[" + b"9" * 10_000 + b"], {}, {}]"),
    **{f"body {value!r}": Sent(body=always(value)) for value in BODIES},
    **{f"embedded {value!r}": Sent(body=followed_by(value)) for value in EMBEDS},
    **body("nothing embedded", lambda number: [[baozi(number)], {}, None], eaten=True),
    **body("arguments by name", lambda number: [[], {"item": baozi(number)}, EMBED], eaten=True),
    **body("a type of kombu's", lambda _: [[{"__type__": "datetime", "__value__": "x"}], {}, EMBED]),
    **body("another type of kombu's", lambda _: [[{"__type__": "nothing", "__value__": "x"}], {}, EMBED]),
    # What is to follow.
    **embedded(
        "callbacks", 5, "x", {"x": 1}, [5], ["x"], [{}], [None], [{"task": 5}], [{"task": "nobody's"}]
    ),
    **embedded("callbacks", [{**SIGNATURE, "args": 5}], [{**SIGNATURE, "options": "x"}], [SIGNATURE, 5]),
    **embedded("callbacks", [{**SIGNATURE, "subtask_type": "chord"}], [{"task": "tasks.bury"}]),
    **embedded("errbacks", 5, "x", {"x": 1}, [5], [{}], [{"task": ["x"]}]),
    **embedded("chain", 5, "x", {"x": 1}, [5], [{}], [SIGNATURE, {}], [{"task": "nobody's"}]),
    **embedded("chord", 5, "x", {"task": "tasks.eat"}, [5]),
    **embedded("callbacks", [], [{**SIGNATURE, "options": {"queue": "nowhere"}}], eaten=True),
    **embedded("callbacks", [{**SIGNATURE, "options": {"countdown": "x", "serializer": "x"}}], eaten=True),
    **embedded("chain", [], [{**SIGNATURE, "options": {"eta": "x", "exchange": "nowhere"}}], eaten=True),
    **embedded("chord", False, "", eaten=True),
    # Content types and encodings, of the body and of the text.
    **{
        f"content type {it!r}": Sent(content_type=it)
        for it in (None, "", "x", "application/x-python-serialize")
    },
    **{
        f"content type {it!r}": Sent(content_type=it)
        for it in ("application/data", "text/plain", "application/text")
    },
    **{
        f"encoding {it!r}": Sent(content_encoding=it)
        for it in ("punycode", "idna", "x", "rot13", "zlib_codec", "\x1b")
    },
    **{
        f"encoding {it!r}": Sent(content_encoding=it, eaten=True)
        for it in (None, "", "UTF-8", "ascii", "binary")
    },
    **{
        it: Sent(content_encoding=it, encode=encoded(it), eaten=True)
        for it in ("utf-16", "UTF-16-LE", "utf-32", "latin-1")
    },
    "gzip": Sent({"compression": "application/x-gzip"}, encode=zlib.compress, eaten=True),
    "bzip2": Sent({"compression": "bzip2"}, encode=bz2.compress, eaten=True),
    "lzma": Sent({"compression": "application/x-lzma"}, encode=lzma.compress, eaten=True),
    **{f"priority {it}": Sent(priority=it, eaten=True) for it in (0, 1, 255)},
    "properties": Sent(
        reply_to="x" * 255, correlation_id="\x1b", timestamp=2**63, type="x", app_id="x", eaten=True
    ),
    # Protocol 1: all in the body.
    **{
        f"protocol 1, {name}": Sent(
            headers={"task": None, "id": None},
            body=in_protocol_1(more),
            eaten=eaten,
        )
        for name, eaten, more in (
            ("good", True, {}),
            (
                "as clients send it",
                True,
                {"kwargs": {}, "retries": 0, "eta": None, "utc": True, "taskset": None},
            ),
            ("an odd id", False, {"id": 5}),
            ("an odd task", False, {"task": ["x"]}),
            ("odd retries", False, {"retries": "x"}),
            ("odd arguments", False, {"args": 5}),
            ("odd callbacks", False, {"callbacks": [5]}),
            ("expired", False, {"expires": "2020-01-01T00:00:00"}),
        )
    },
    "protocol 1 under a header of 2": Sent(
        body=lambda number: {"args": [baozi(number)], "kwargs": {}}, eaten=True
    ),
}


@pytest.mark.parametrize(("pool", "tray"), [("prefork", 1), ("prefork", 100), ("threads", 1), ("solo", 100)])
def test_each_message_is_eaten_or_dead_with_its_reason_and_never_both_and_good_ones_are_eaten(
    place: Place, pool: str, tray: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = place.worker("小明", pool, tray=tray)
    children = {child.pid for child in pool_children(worker)}
    before = memory(worker.process)
    with place.producer() as producer:
        for number, (name, sent) in enumerate(MESSAGES.items()):
            sent.send(producer.channel, number, name)
            place.send_eat(producer, baozi(number, "good"))
    dead = {name for name, sent in MESSAGES.items() if not sent.eaten}
    wait_until(lambda: place.eaten("good") == len(MESSAGES), "the good ones to be eaten", 120)
    wait_until(lambda: place.waiting("baozi.dead") >= len(dead), "all the bad ones to be dead", 60)
    wait_until(lambda: place.waiting() == 0, "nothing to be left in the queue")
    assert worker.process.is_running()
    assert {child.pid for child in pool_children(worker)} == children
    assert memory(worker.process) - before < MEMORY

    letters = letters_of(place, monkeypatch)
    assert Counter(letter.headers["sent-as"] for letter in letters) == Counter(dead)
    for letter in letters:
        name = letter.headers["sent-as"]
        assert MESSAGES[name].reason in letter.reason
        assert letter.headers["baozi-reason"], name
    eaten = {name for name, sent in MESSAGES.items() if sent.eaten}
    wait_until(lambda: place.eaten("bad") >= len(eaten), "those that are no worse than odd to be eaten")
    assert place.eaten("bad") == len(eaten)
    with place.producer() as producer:
        for number in range(20):
            place.send_eat(producer, baozi(number, "last"))
    wait_until(lambda: place.eaten("last") == 20, "the worker to go on")


def memory(process: psutil.Process) -> int:
    """The most that it ever had, in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def letters_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[DeadMessage]:
    monkeypatch.setattr("baozi.amqp.connection.broker_url", lambda: place.url)
    return list(dead_letters.browse())
