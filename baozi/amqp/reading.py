"""Reads a connection's frames in large pieces: py-amqp needs nine system calls to read one message.

In a worker that eats from a long queue, these calls took half of the main process's time.

Upstream: no thread is known.
Checked with: amqp 5.4.2.
"""

from collections import defaultdict
from collections.abc import Callable
from socket import MSG_DONTWAIT
from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError
from struct import Struct
from typing import Any

from amqp import spec
from amqp.exceptions import ChannelError, UnexpectedFrame, error_for_code
from amqp.serialization import loads

from baozi.amqp.decoding import Content, readable_arguments

#: Bytes of one read: about a hundred messages.
_READ_SIZE = 65536
#: What precedes a frame's payload: its type, channel and size; and the byte that ends the frame (AMQP 0-9-1,
#: section 4.2.3).
_HEAD = Struct(">BHI")
_END = 0xCE
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_SIGNATURE = Struct(">HH")

#: Methods whose texts may not be UTF-8, and the types of their arguments, by py-amqp's letters. RabbitMQ cuts
#: a reply text after 252 bytes, even in the middle of a character.
_WITH_CONTENT = {spec.Basic.Deliver: "sLbss", spec.Basic.GetOk: "Lbssl", spec.Basic.Return: "Bsss"}
_CLOSES = {spec.Channel.Close: "BsBB", spec.Connection.Close: "BsBB"}

#: Errors of a read when no data has arrived yet.
_NOT_YET = (TimeoutError, BlockingIOError, InterruptedError, SSLWantReadError, SSLWantWriteError)

Frame = tuple[int, int, bytes]


class Reader:
    """Reads the frames of a py-amqp connection. Replaces its transport's ``read_frame``.

    A frame is removed from the buffer before it is handled, because a handler that waits for an answer reads
    the next frame.
    """

    def __init__(self, connection: Any) -> None:
        """Read from ``connection``, which has just connected."""
        self._connection = connection
        self._transport = connection.transport
        self._data = b""
        self._at = 0
        self.reopens = True
        """Whether to reopen a channel that the broker closes before raising the error, as py-amqp does."""
        self.blocked = False
        """Whether the broker has blocked this connection because of an alarm."""

    @property
    def left(self) -> int:
        """Bytes that were received and not yet handled."""
        return len(self._data) - self._at

    def read_frame(self) -> Frame:
        """Return the next frame. Waits for the socket's timeout at most.

        Raises:
            OSError: the connection is lost, or the timeout is over. After a timeout, the data that arrived is
                kept.
            UnexpectedFrame: the bytes are not a valid frame.
        """
        while (frame := self.next()) is None:
            self._receive()
        return frame

    def next(self) -> Frame | None:
        """Return the next frame if all of it has arrived, else None.

        Raises:
            UnexpectedFrame: the bytes are not a valid frame.
        """
        data, start = self._data, self._at
        body = start + _HEAD.size
        if len(data) < body:
            return None
        kind, channel, size = _HEAD.unpack_from(data, start)
        end = body + size
        if len(data) <= end:
            # RabbitMQ adds x-delivery-count and x-death to a message's headers. It never splits the headers
            # over several frames, even if they are larger than the largest frame.
            if kind != _HEADER and size > self._connection.frame_max:
                raise UnexpectedFrame(f"Received a frame of {size} bytes, more than was agreed")
            return None
        if data[end] != _END:
            raise UnexpectedFrame(f"Received frame_end {data[end]:#04x} while expecting 0xce")
        self._at = end + 1
        return kind, channel, data[body:end]

    def handle_available(self) -> None:
        """Read what has arrived, without waiting, and let py-amqp handle each frame in it.

        Raises:
            OSError: the connection is lost.
            AMQPError: the broker closed the connection or a channel; the error has its reason.
        """
        try:
            if isinstance(self._transport.sock, SSLSocket):
                with self._transport.having_timeout(0):
                    self._receive()
            else:
                self._receive(MSG_DONTWAIT)
        except _NOT_YET:
            pass
        handle = self._connection.on_inbound_frame
        while (frame := self.next()) is not None:
            handle(frame)

    def _receive(self, flags: int = 0) -> None:
        sock = self._transport.sock
        try:
            piece = sock.recv(_READ_SIZE, flags)
            # Decrypted data in the TLS layer does not make the socket readable.
            while isinstance(sock, SSLSocket) and sock.pending():
                piece += sock.recv(sock.pending())
            if not piece:
                raise ConnectionResetError("the broker closed the connection")
        except _NOT_YET:
            raise
        except OSError:
            self._transport.connected = False
            raise
        self._data, self._at = self._data[self._at :] + piece, 0


def frame_handler(connection: Any, callback: Callable[..., object]) -> Callable[[Frame], bool]:
    """Return the function that py-amqp calls with each frame, and use :class:`Reader` for this connection.

    Pass it as py-amqp's option ``frame_handler``. py-amqp calls it when the socket is connected.

    Args:
        connection: py-amqp's connection.
        callback: called for each complete method with channel, signature, arguments, and message or None.
    """
    reader = connection.transport.reader = Reader(connection)
    connection.transport.read_frame = reader.read_frame
    expected: defaultdict[int, int] = defaultdict(lambda: _METHOD)
    arriving: dict[int, Any] = {}

    def on_method(channel: int, payload: bytes) -> bool:
        method = _SIGNATURE.unpack_from(payload)
        if method in _WITH_CONTENT:
            arguments = readable_arguments(_WITH_CONTENT[method], payload)
            arriving[channel] = Content(method, arguments)
            expected[channel] = _HEADER
            return False
        if method in (spec.Connection.Blocked, spec.Connection.Unblocked):
            reader.blocked = method == spec.Connection.Blocked
        if method in _CLOSES:
            payload = readable_arguments(_CLOSES[method], payload)
            if method == spec.Channel.Close and not reader.reopens:
                _close(connection.channels[channel], payload)
        callback(channel, method, payload, None)
        return True

    def on_content(kind: int, channel: int, payload: bytes) -> bool:
        content = arriving[channel]
        if kind == _HEADER:
            content.inbound_header(payload)
        else:
            content.inbound_body(payload)
        if not content.ready:
            expected[channel] = _BODY
            return False
        expected[channel] = _METHOD
        del arriving[channel]
        callback(channel, content.frame_method, content.frame_args, content)
        return True

    def on_frame(frame: Frame) -> bool:
        kind, channel, payload = frame
        connection.bytes_recv += 1
        if kind == _HEARTBEAT or channel not in (connection.channels or {channel}):
            return False  # this process has closed the channel
        if kind != expected[channel]:
            raise UnexpectedFrame(f"Received frame {kind} while expecting type: {expected[channel]}")
        if kind == _METHOD:
            return on_method(channel, payload)
        return on_content(kind, channel, payload)

    return on_frame


def _close(channel: Any, arguments: bytes) -> None:
    """Acknowledge that the broker has closed ``channel``, and raise its reason.

    Does nothing if this process is closing the channel. py-amqp would first open the channel again and wait
    for the answer, and never returns if the broker hangs.

    Raises:
        ChannelError: the broker's reason.
    """
    if channel.is_closing:
        return
    code, text, *method = loads("BsBB", arguments, _SIGNATURE.size)[0]
    channel.send_method(spec.Channel.CloseOk)
    channel.collect()
    raise error_for_code(code, text, tuple(method), ChannelError)


def read_in_pieces(connection: Any, hub: Any) -> None:
    """Let ``hub`` read ``connection`` in pieces, and do not open a closed channel again.

    Args:
        connection: py-amqp's connection with the option :func:`frame_handler`.
        hub: Celery's event loop; None if the caller drains the connection itself.
    """
    reader: Reader = connection.transport.reader
    reader.reopens = False
    if hub is not None:
        hub.remove_reader(connection.sock)
        hub.add_reader(connection.sock, reader.handle_available)
