"""No letter breaks the commands, and none is changed: whatever its bytes are."""

import bz2
import gzip
import json
import re
import zlib
from collections.abc import Iterable
from struct import pack

import pytest

from baozi.amqp.properties import field, fields, split
from baozi.dead_letters.letter import original_properties
from tests.integration.place import Place
from tests.integration.raised import CONTROLS
from tests.integration.raw_messages import (
    CONTENT_HEADER,
    FRAME,
    header,
    long,
    properties,
    publish,
    short,
    taken,
    text,
)
from tests.waiting import wait_until


def of(content_type: str, encoding: str | None = None) -> dict[str, bytes]:
    return {
        "content_type": short(content_type),
        **({"content_encoding": short(encoding)} if encoding else {}),
    }


JSON = of("application/json", "utf-8")
BAOZI = {"run": "r", "producer": "小明", "number": 0, "made_at": 1.5}
BODY = json.dumps([[BAOZI], {}, {}], ensure_ascii=False)


def nested(depth: int) -> bytes:
    """A table in a table, and so on."""
    table = b""
    for _ in range(depth):
        table = b"\x01t" + b"F" + long(table)
    return long(table)


def filled(size: int) -> bytes:
    """Properties of ``size`` bytes."""
    empty = properties(text("filling", ""), **JSON)
    return properties(text("filling", "x" * (size - len(empty))), **JSON)


EVERY_TYPE = [
    header(f"of-type-{kind}".encode(), kind.encode(), value)
    for kind, value in {
        "t": b"\x01",
        "b": b"\xff",
        "B": b"\xff",
        "s": b"\xff\xfe",
        "u": b"\xff\xfe",
        "I": b"\xff\xff\xff\xfe",
        "i": b"\xff\xff\xff\xfe",
        "l": b"\xff" * 8,
        "f": pack(">f", 0.1),
        "d": pack(">d", 0.1),
        "D": b"\xff\x00\x00\x00\x01",
        "S": long(b"\xff\xfe"),
        "x": long(b"\x00\x01"),
        "T": pack(">Q", 1_700_000_000),
        "F": long(b"\x01aV\x01a" + b"s\x00\x01"),
        "A": long(b"VVt\x00" + b"A" + long(b"")),
        "V": b"",
    }.items()
]
LONG_TIME = pack(">Q", 1_700_000_000_000)

#: Bodies and properties of messages that no client of Celery sends.
ODD: dict[str, tuple[bytes, bytes]] = {
    "nothing at all": (b"", properties()),
    "an unknown compression": (b"?", properties(text("compression", "snappy"), **JSON)),
    "a compression that is no text": (b"?", properties(field("compression", {"a": [1]}), **JSON)),
    "a damaged gzip": (b"\x1f\x8b?", properties(text("compression", "application/x-gzip"), **JSON)),
    "a bomb": (bz2.compress(bytes(200_000_000)), properties(text("compression", "bzip2"), **JSON)),
    "zlib": (zlib.compress(BODY.encode()), properties(text("compression", "application/x-gzip"), **JSON)),
    "gzip": (gzip.compress(BODY.encode(), mtime=0), properties(text("compression", "gzip"), **JSON)),
    "UTF-16": (BODY.encode("utf-16"), properties(**of("application/json", "utf-16"))),
    "Latin-1": (b'["caf\xe9"]', properties(**of("text/plain", "latin-1"))),
    "a UTF-8 that is none": (b"\xff\xfe\x00", properties(**JSON)),
    "an unknown encoding": (b"1", properties(content_encoding=short("klingon"))),
    "a slow encoding": (b"a" * 100_000, properties(content_encoding=short("punycode"))),
    "a codec of bytes": (b"eJw=", properties(content_encoding=short("zlib_codec"))),
    "binary": (bytes(range(256)), properties(**of("application/octet-stream"))),
    "pickle": (b"cos\nsystem\n(S'true'\ntR.", properties(**of("application/x-python-serialize"))),
    "broken JSON": (b'[[{"run": ', properties(**JSON)),
    "deep JSON": (b"[" * 100_000, properties(**JSON)),
    "long numbers": (b"[[" + b"9" * 10_000 + b"]]", properties(**JSON)),
    "infinite numbers": (b'[[{"made_at": 1e999, "numbers": NaN}]]', properties(**JSON)),
    "odd numbers": (b'[[{"numbers": {"a": 1}, "run": []}]]', properties(**JSON)),
    "no content type, but an encoding": (b"{}", properties(content_encoding=short("utf-8"))),
    "texts that are not UTF-8": (
        b"",
        properties(
            content_type=short(b"\xff"),
            content_encoding=short(b"\xfe"),
            correlation_id=short(b"\xfd"),
            message_id=short(b"\xc3("),
        ),
    ),
    "all properties": (
        b"",
        properties(
            text("a", "b"),
            delivery_mode=b"\x01",
            priority=b"\xff",
            correlation_id=short("c"),
            reply_to=short("r"),
            message_id=short("m"),
            timestamp=b"\xff" * 8,
            type=short("t"),
            app_id=short("a"),
            **JSON,
        ),
    ),
    "a transient one": (b"", properties(delivery_mode=b"\x01")),
    "a property's time in milliseconds": (b"", properties(timestamp=LONG_TIME)),
    "a header's time in milliseconds": (b"", properties(header(b"at", b"T", LONG_TIME), text("id", "late"))),
    "a header's time that is negative": (b"", properties(header(b"at", b"T", b"\xff" * 8))),
    "every type": (b"", properties(*EVERY_TYPE)),
    "the same header twice": (b"", properties(text("a", "1"), text("a", "2"))),
    "names that are not UTF-8": (b"", properties(header(b"\xff\xfe", b"V", b""), header(b"", b"V", b""))),
    "tables within tables": (b"", properties(header(b"deep", b"F", nested(30)))),
    "tables too deep for Python": (b"", properties(header(b"deep", b"F", nested(3000)), text("id", "deep"))),
    "headers as large as a frame": (b"body", filled(FRAME - CONTENT_HEADER)),
    "an id that is no text": (b"", properties(field("id", [1]), field("task", {"a": 1}))),
    "controls": (
        CONTROLS.encode("utf-8", "surrogatepass"),
        properties(text("id", CONTROLS), text(CONTROLS[:20], CONTROLS), message_id=short("\x1b[2J\u202e")),
    ),
}

#: The headers that dead-lettering and the broker write, written by another client.
FORGED = {
    "a reason that is no text": [field("baozi-reason", {"a": [CONTROLS]})],
    "a reason of controls": [text("baozi-reason", CONTROLS), text("baozi-consumer", CONTROLS)],
    "a traceback of controls": [text("baozi-traceback", CONTROLS)],
    "a reason of bytes": [header(b"baozi-reason", b"x", long(b"\xff\x1b[2J"))],
    "a long reason": [text("baozi-reason", "x" * 100_000)],
    "a time far away": [field("baozi-died-at", 2**62), field("baozi-deliveries", -(2**62))],
    "a time in a table": [field("baozi-died-at", {"time": 1}), field("baozi-deliveries", "many")],
    "a death that is no array": [text("x-death", "yesterday"), text("x-first-death-reason", CONTROLS)],
    "a death in milliseconds": [
        header(b"x-death", b"A", long(b"F" + long(b"\x04time" + b"T" + LONG_TIME))),
    ],
    "properties elsewhere": [field("baozi-properties", 5)],
    "properties far away": [field("baozi-properties", 2**40)],
    "properties before": [field("baozi-properties", -1)],
}


def commands_that_look(place: Place) -> Iterable[str]:
    """Run each command that looks at the dead letters, and yield what it printed."""
    done = place.run("dead", "list")
    assert (done.returncode, done.stderr) == (0, "")
    yield done.stdout
    listed = place.run("dead", "list", "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    yield listed.stdout
    ids = [json.loads(line, parse_constant=refuse)["id"] for line in listed.stdout.splitlines()]
    for more in ([], ["--json"]):
        done = place.run("dead", "show", *dict.fromkeys(ids), *more)
        assert (done.returncode, done.stderr) == (0, "")
        yield done.stdout
    for line in done.stdout.splitlines():
        json.loads(line, parse_constant=refuse)


def compared(body: bytes, raw: bytes) -> tuple[bytes, bytes]:
    """A message but for what RabbitMQ 3.10 does to headers: it adds its count, and sorts them."""
    parts = split(original_properties(raw))
    headers = sorted(fields(parts.pop("application_headers", None)))
    return body, properties(*headers, **parts)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_each_command_works_with_any_dead_letters_and_changes_none(place: Place) -> None:
    place.produce("sound", "egon", 1)
    worker = place.worker("小明")
    wait_until(lambda: (sums := place.sums("sound")) and sums.proven, "the run to be sound")
    worker.process.terminate()
    wait_until(lambda: place.consumers() == 0, "the worker to end")
    publish(place.url, "baozi", list(ODD.values()))
    sent = taken(place.url, "baozi")
    assert len(sent) == len(ODD)
    # What RabbitMQ hands on at once is the measure: of two headers with one name, 4.3 keeps the first.
    unchanged = {compared(*message) for message in sent}
    publish(place.url, "baozi.dead", list(ODD.values()))
    forged = [(b"body", properties(*added)) for added in FORGED.values()]
    publish(place.url, "baozi.dead", forged)

    for printed in commands_that_look(place):
        odd = re.sub(r"[\n -~–…?]", "", printed)
        assert all(letter.isprintable() for letter in odd), ascii(odd)
        assert "\n2026-01-01 forged" not in printed
    audited = place.run("audit", "sound", "--json")
    assert (audited.returncode, json.loads(audited.stdout)["total"]["dead"]) == (0, 0), audited.stderr

    replayed = place.run("dead", "replay", "--all", "--json")
    assert (replayed.returncode, json.loads(replayed.stdout)) == (0, {"replayed": len(ODD) + len(FORGED)})
    there = {compared(*message) for message in taken(place.url, "baozi")}
    assert unchanged - there == set()
    assert there - unchanged == {(b"body", properties())}

    publish(place.url, "baozi.dead", list(ODD.values()))
    listed = place.run("dead", "list", "--json").stdout.splitlines()
    ids = dict.fromkeys(json.loads(line)["id"] for line in listed)
    dropped = place.run("dead", "drop", "--yes", *ids, "--json")
    assert (dropped.returncode, json.loads(dropped.stdout)) == (0, {"dropped": len(ODD)}), dropped.stderr


@pytest.mark.parametrize("blank", ["", " ", "\t", "\n", "\u3000", "\xa0 "])
@pytest.mark.parametrize("command", [["drop", "--yes"], ["drop"], ["show"], ["replay"]])
def test_an_id_that_is_empty_is_a_usage_error_and_touches_no_letter(
    private_place: Place, command: list[str], blank: str
) -> None:
    place = private_place
    place.produce("r", "egon", 1)
    publish(place.url, "baozi.dead", [ODD["all properties"]])
    letter = json.loads(place.run("dead", "list", "--json").stdout)["id"]
    for ids in ([blank], [letter, blank], [blank, letter]):
        done = place.run("dead", *command, *ids)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "An id is empty; give a letter's id, or its first letters.\n"
    assert place.waiting("baozi.dead") == 1
