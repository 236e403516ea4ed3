"""Malformed events and remote control commands stop no worker, and take none of its memory."""

import bz2
import json
import time
from typing import Any

import psutil
from celery import Celery
from kombu import Connection

from tests.integration.place import Place
from tests.integration.raw_messages import Raw, header, long, properties, short, text
from tests.waiting import wait_until

JSON = {"content_type": short("application/json"), "content_encoding": short("utf-8")}
PICKLE = {"content_type": short("application/x-python-serialize"), "content_encoding": short("binary")}
HOST = text("hostname", "y@there")
#: Bytes that a worker's main process may need more, whatever comes.
MEMORY = 200_000_000

#: What no Celery client sends, to whatever exchange: body and properties.
ANYWHERE: list[tuple[bytes, bytes]] = [
    *((body, properties(HOST, **JSON)) for body in (b"", b"{", b"[]", b"null", b"5", b'"x"', b"{}")),
    (b"[" * 1_000_000, properties(HOST, **JSON)),
    (b"{}", properties()),
    (b"{}", properties(HOST, **PICKLE)),
    (b"{}", properties(HOST, content_type=short(b"\xff"), content_encoding=short(b"\xff"))),
    (b"{}", properties(HOST, content_type=JSON["content_type"], content_encoding=short("nope"))),
    (bz2.compress(b"0" * 400_000_000), properties(HOST, text("compression", "bzip2"), **JSON)),
    (b"{}", properties(HOST, text("compression", "unknown"), **JSON)),
    (b"{}", properties(HOST, header(b"compression", b"I", b"\0\0\0\1"), **JSON)),
    (b"{}", properties(HOST, header(b"\xff", b"S", long(b"\xff")), **JSON)),
    (b"{}", properties(HOST, timestamp=b"\0\0\1\x99\0\0\0\0", **JSON)),
]


def command(*headers: Any, **fields: Any) -> tuple[bytes, bytes]:
    given = {"method": "ping", "arguments": {}, "destination": None, **fields}
    return json.dumps(given).encode(), properties(*headers, **JSON)


METHODS: list[Any] = [None, 5, [], "unknown"]
COMMANDS = [
    *(command(method=method) for method in METHODS),
    *(command(arguments=arguments) for arguments in ([1], "x", {"unknown": 1})),
    *(command(destination=destination) for destination in (5, {"x": 1}, [[1]])),
    command(pattern="(", matcher="pcre"),
    *(command(reply_to=to, ticket="t") for to in (5, {}, {"exchange": "", "routing_key": "x" * 300})),
    *(command(text("clock", clock)) for clock in ("", "x")),
    command(header(b"clock", b"l", b"\x7f" + b"\xff" * 7)),
    *(command(method="revoke", arguments={"task_id": ids}) for ids in ({"a": 1}, [[1]], None)),
    command(method="cancel_consumer", arguments={"queue": {}}),
    command(method="time_limit", arguments={"task_name": "tasks.eat", "hard": "x"}),
    command(method="pool_grow", arguments={"n": "x"}),
    command(method="hello", arguments={"from_node": 5, "revoked": 5}),
]


def event(kind: str, **fields: Any) -> tuple[bytes, bytes]:
    about = {"hostname": "y@there", "timestamp": time.time(), "utcoffset": 0, "pid": 1, "clock": 1, "freq": 2}
    return json.dumps({**about, "type": kind, **fields}).encode(), properties(HOST, **JSON)


NAMES: list[Any] = [None, 5, [1], {}]
HEARTBEATS = [
    *(event("worker-heartbeat", type=kind) for kind in (5, None, "x")),
    *(event("worker-heartbeat", clock=clock) for clock in ("x", None, 2**63 - 2, 2**70, -1)),
    *(event("worker-heartbeat", **{name: "x"}) for name in ("timestamp", "utcoffset", "freq")),
    *(event("worker-heartbeat", freq=freq) for freq in (0, -1)),
    *(event("worker-heartbeat", hostname=name) for name in NAMES),
    event("worker-heartbeat", heartbeats="x", event=5),
]
ELECTION = {"topic": "task", "action": {}, "cver": 1}
ELECTIONS = [
    event("worker-elect"),
    *(event("worker-elect", id=id_, **ELECTION) for id_ in NAMES),
    event("worker-elect", id="a", **ELECTION),
    event("worker-elect", id="a", **{**ELECTION, "clock": "x"}),
]


def test_no_malformed_event_or_command_stops_a_worker_or_makes_it_grow(private_place: Place) -> None:
    worker = private_place.worker("小明")
    process = psutil.Process(worker.process.pid)
    memory, files = process.memory_info().rss, process.num_fds()
    sent = [
        *(("celery.pidbox", "", one) for one in ANYWHERE + COMMANDS),
        *(("celeryev", "worker.heartbeat", one) for one in ANYWHERE + HEARTBEATS),
        *(("celeryev", "worker.elect", one) for one in ANYWHERE + ELECTIONS),
        *(("celeryev", "worker.elect.ack", one) for one in ANYWHERE + ELECTIONS),
    ]
    with Connection(private_place.url, connect_timeout=5) as connection:
        channel: Any = connection.channel()
        for exchange, routing_key, one in sent:
            channel.basic_publish(Raw(*one), exchange=exchange, routing_key=routing_key)
    # Each queue keeps its order: when the last messages are read, all are.
    with Celery(broker=private_place.url, set_as_current=False) as client:
        wait_until(lambda: client.control.ping(timeout=2), "the worker to answer", timeout=60)
    log = worker.log
    wait_until(lambda: log.read_text().count("Dropped an event") >= 3 * len(ANYWHERE), "all to be read")
    private_place.produce("after", "alex", 1)
    wait_until(lambda: private_place.eaten("after") == 1, "the worker to eat")
    assert worker.process.poll() is None, log.read_text()
    assert "Connection to broker lost" not in log.read_text()
    assert process.memory_info().rss - memory < MEMORY
    assert process.num_fds() - files < 5
