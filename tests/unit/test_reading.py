"""A connection that is read in pieces, by a broker that says exactly what the test wants."""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from amqp import spec
from amqp.exceptions import ChannelError, PreconditionFailed
from amqp.exceptions import ConnectionError as AmqpConnectionError
from amqp.serialization import dumps
from kombu import Connection
from kombu.asynchronous import Hub

from baozi.amqp.connection import connect
from baozi.amqp.reading import read_in_pieces

#: Seconds within which all is over here.
SOON = 10


def frame(channel: int, method: tuple[int, int], kinds: str = "", *arguments: Any) -> bytes:
    payload = struct.pack(">HH", *method) + (dumps(kinds, arguments) if kinds else b"")
    return whole(1, channel, payload)


def whole(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def delivery(tag: int, body: bytes = b"{}", channel: int = 1) -> bytes:
    parts = [frame(channel, spec.Basic.Deliver, "sLbss", "tag", tag, False, "", "q")]
    parts.append(whole(2, channel, struct.pack(">HHQH", 60, 0, len(body), 0)))
    return b"".join(parts) + whole(3, channel, body)


def closing(text: str = "the broker's reason", channel: int = 1) -> bytes:
    return frame(channel, spec.Channel.Close, "BsBB", 406, text, 60, 80)


class Broker:
    """Answers a client until it consumes; then says what it is told to say, in pieces, and nothing more."""

    def __init__(self, speech: bytes, pieces: list[int], answers: dict[tuple[int, int], bytes]) -> None:
        """Listen.

        Args:
            speech: what to say to who consumes.
            pieces: the sizes of the writes; the rest goes in one.
            answers: what else to answer to a method.
        """
        self._speech = speech
        self._pieces = pieces
        self._answers = {
            spec.Connection.StartOk: frame(0, spec.Connection.Tune, "BlB", 10, 131072, 0),
            spec.Connection.Open: frame(0, spec.Connection.OpenOk),
            spec.Channel.Open: frame(1, spec.Channel.OpenOk) + b"",
            **answers,
        }
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://a:b@127.0.0.1:{self._listener.getsockname()[1]}//"
        self.heard: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            with client, client.makefile("rb") as said:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                said.read(8)
                client.sendall(frame(0, spec.Connection.Start, "ooFSS", 0, 9, {}, "PLAIN", "en_US"))
                while head := said.read(7):
                    payload = said.read(struct.unpack(">I", head[3:])[0] + 1)
                    method = struct.unpack_from(">HH", payload)
                    self.heard.append(method)
                    client.sendall(self._answers.get(method, b""))
                    if method == spec.Basic.Consume:
                        self._speak(client)

    def _speak(self, client: socket.socket) -> None:
        speech = self._speech
        for size in self._pieces:
            client.sendall(speech[:size])
            speech = speech[size:]
            time.sleep(0.001)  # or the kernel joins the pieces
        client.sendall(speech)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def brokers() -> Iterator[list[Broker]]:
    made: list[Broker] = []
    yield made
    for broker in made:
        broker.close()


def consumed(
    brokers: list[Broker],
    speech: bytes,
    pieces: list[int],
    until: Callable[[list[int]], bool],
    handle: Callable[[Any], object] = lambda _: None,
    answers: dict[tuple[int, int], bytes] | None = None,
) -> tuple[list[int], Exception | None, list[tuple[int, int]]]:
    """Consume in an event loop; return the delivery tags in the order they came, and what ended it."""
    broker = Broker(speech, pieces, answers or {})
    brokers.append(broker)
    tags: list[int] = []

    def on_message(message: Any) -> None:
        tags.append(message.delivery_tag)
        handle(message)

    connection: Any = connect("a test", url=broker.url)
    connection.connection.transport.sock.settimeout(SOON)
    hub: Any = Hub()
    raised: list[Exception] = []
    try:
        channel = connection.channel()
        read_in_pieces(connection.connection, hub)
        hub.propagate_errors = (Exception,)
        channel.basic_consume("q", callback=on_message, consumer_tag="tag", nowait=True)
        deadline = time.monotonic() + SOON
        loop = hub.create_loop()
        hub.call_repeatedly(0.05, lambda: None)
        while not until(tags):
            assert time.monotonic() < deadline, f"{len(tags)} messages came, and nothing more"
            next(loop)
    except AssertionError:
        raise
    except Exception as error:
        raised.append(error)
    finally:
        hub.close()
        connection.collect(socket_timeout=1)
    return tags, raised[0] if raised else None, broker.heard


def never(_: object) -> bool:
    return False


@pytest.mark.parametrize("seed", range(30))
def test_a_channel_that_is_closed_amid_deliveries_is_the_brokers_reason_and_blocks_nothing(
    brokers: list[Broker], seed: int
) -> None:
    chance = random.Random(seed)
    before, after = chance.choice([0, 1, 5, 500]), chance.choice([0, 1, 5, 500])
    speech = b"".join(delivery(tag, chance.randbytes(chance.choice([2, 300]))) for tag in range(before))
    speech += closing() + b"".join(delivery(tag) for tag in range(after))
    pieces = [chance.randrange(1, 200) for _ in range(chance.choice([0, 1, 20]))]
    tags, error, heard = consumed(brokers, speech, pieces, never)
    assert isinstance(error, PreconditionFailed)
    assert "the broker's reason" in str(error)
    assert tags == list(range(before))
    assert heard.count(spec.Channel.Open) == 1, "it is not opened again"


@pytest.mark.parametrize("cut", range(1, 60, 2))
def test_it_does_not_matter_where_a_piece_ends(brokers: list[Broker], cut: int) -> None:
    start = len(delivery(0))
    tags, error, _ = consumed(brokers, delivery(0) + closing() + delivery(1), [start + cut], never)
    assert (tags, str(error).count("the broker's reason")) == ([0], 1)


def test_a_connection_that_is_closed_amid_deliveries_is_the_brokers_reason(brokers: list[Broker]) -> None:
    end = frame(0, spec.Connection.Close, "BsBB", 320, "CONNECTION_FORCED - gone for lunch", 0, 0)
    speech = b"".join(delivery(tag) for tag in range(100)) + end + delivery(100)
    tags, error, _ = consumed(brokers, speech, [], never)
    assert isinstance(error, AmqpConnectionError)
    assert "gone for lunch" in str(error)
    assert tags == list(range(100))


@pytest.mark.parametrize("count", [1, 2, 50])
def test_a_handler_that_waits_for_an_answer_reads_on_with_the_frame_behind(
    brokers: list[Broker], count: int
) -> None:
    speech = b"".join(delivery(tag) for tag in range(200))

    def handle(message: Any) -> None:
        if message.delivery_tag < count:
            message.channel.basic_qos(0, 10, False)

    qos_ok = frame(1, spec.Basic.QosOk)
    tags, error, heard = consumed(
        brokers, speech, [], lambda tags: len(tags) == 200, handle, {spec.Basic.Qos: qos_ok}
    )
    assert error is None
    assert tags == list(range(200))
    assert heard.count(spec.Basic.Qos) == count


def test_a_channel_that_is_closed_while_a_handler_waits_is_the_brokers_reason(brokers: list[Broker]) -> None:
    speech = b"".join(delivery(tag) for tag in range(50)) + closing()
    _, error, _ = consumed(brokers, speech, [], never, lambda it: it.channel.basic_qos(0, 10, False))
    assert "the broker's reason" in str(error)


def test_a_reason_that_is_cut_within_a_character_is_reported(brokers: list[Broker]) -> None:
    reason = ("包" * 84).encode()[:250] + b"..."
    payload = (
        struct.pack(">HHHB", *spec.Channel.Close, 406, len(reason)) + reason + struct.pack(">HH", 60, 80)
    )
    _, error, _ = consumed(brokers, delivery(0) + whole(1, 1, payload), [], never)
    assert isinstance(error, ChannelError)
    assert "包" * 80 in str(error)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x01\0\x01\0\0\0\x04\0\0\0\0X",
        b"\x09\0\x01\0\0\0\0\xce",
        b"\x01\0\x01\x7f\xff\xff\xff",
        b"HTTP/1.1 400",
    ],
)
def test_invalid_frames_are_a_lost_connection(brokers: list[Broker], garbage: bytes) -> None:
    connection = Connection("amqp://")
    _, error, _ = consumed(brokers, delivery(0) + garbage, [], never)
    assert isinstance(error, connection.connection_errors)


@pytest.mark.parametrize("size", [131_065, 131_072, 131_073, 131_200, 1_000_000])
@pytest.mark.parametrize("pieces", [[], [100, 70_000], [131_100]])
def test_properties_to_which_the_broker_added_may_be_larger_than_a_frame(
    brokers: list[Broker], size: int, pieces: list[int]
) -> None:
    headers = dumps("F", ({"x": "y" * (size - 24)},))
    content = struct.pack(">HHQH", 60, 0, 2, 0x2000) + headers
    assert abs(len(content) - size) < 10
    large = frame(1, spec.Basic.Deliver, "sLbss", "tag", 1, False, "", "q") + whole(2, 1, content)
    speech = delivery(0) + large + whole(3, 1, b"{}") + delivery(2)
    tags, error, _ = consumed(brokers, speech, pieces, lambda tags: len(tags) == 3)
    assert (tags, error) == ([0, 1, 2], None)


def test_frames_of_a_channel_that_is_not_open_are_ignored(brokers: list[Broker]) -> None:
    speech = delivery(0) + delivery(7, channel=5) + closing(channel=6) + delivery(1)
    tags, error, _ = consumed(brokers, speech, [], lambda tags: len(tags) == 2)
    assert (tags, error) == ([0, 1], None)
