"""Publishes items, each confirmed by the broker. :class:`ConfirmedSender` waits for each confirm.

The sender for ``window`` > 1, which does not wait, is in :mod:`remote_mp.window_sending`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from struct import Struct
from threading import Lock
from typing import Protocol

from kombu import Connection
from tenacity import Retrying, retry_if_exception_type, stop_before_delay, stop_never

from baozi.amqp.confirms import SILENCE, ConfirmedChannel, too_large
from baozi.amqp.connection import close_inherited_socket, connect
from baozi.amqp.frames import Frames
from baozi.backoff import exponential_wait
from baozi.errors import BrokerAway, MessageRefused, QueueFull
from remote_mp.serializers import Serializer
from remote_mp.topology import ItemQueue

#: Seconds of the first and of the longest pause before the next try to put into a full queue. Each ``get``
#: makes room, and the broker does not tell producers.
_FIRST_PAUSE_FULL, _LONGEST_PAUSE_FULL = 0.002, 0.1
#: Seconds of the first and of the longest pause before the next connection to a broker that is away.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1
#: Bytes of the largest message that any RabbitMQ accepts: ``max_message_size`` cannot be higher.
_LARGEST = 536_870_912
#: Seconds for which the broker's limit is remembered: an administrator may raise it.
_LIMIT_REMEMBERED = 60

_FLAGS = Struct(">H")
#: Flags of the properties, which follow the flags in this order.
_CONTENT_TYPE, _DELIVERY_MODE, _REPLY_TO, _MESSAGE_ID = 1 << 15, 1 << 12, 1 << 9, 1 << 7
_PERSISTENT = b"\x02"


class MessageFramer:
    """Makes the AMQP frames of the messages that one process publishes to one queue, on one channel.

    Two such messages differ only in the id and the body. kombu would make the same properties again for each,
    which takes about 0.1 ms.
    """

    def __init__(
        self, channel: int, frame_max: int, queue: str, content_type: str, reply_to: str | None
    ) -> None:
        """Prepare what is the same in all messages. They are persistent and mandatory.

        Args:
            channel: the number of the channel.
            frame_max: bytes of the largest frame.
            queue: the name of the queue.
            content_type: the content type of the bodies.
            reply_to: the queue to which done notices are sent; None if none are wanted.
        """
        self._frames = Frames(channel, frame_max, "", queue)
        flags = _CONTENT_TYPE | _DELIVERY_MODE | _MESSAGE_ID | (_REPLY_TO if reply_to else 0)
        address = _short_string(reply_to) if reply_to else b""
        self._properties = _FLAGS.pack(flags) + _short_string(content_type) + _PERSISTENT + address

    def frames(self, message_id: str, body: bytes) -> bytes:
        """Return all frames of the message."""
        return self._frames.of(self._properties + _short_string(message_id), body)


def _short_string(text: str) -> bytes:
    """Return ``text`` as AMQP's short string: a byte with its length, and then its bytes."""
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message that is to be published, or is published and not confirmed yet."""

    id: str
    body: bytes
    framer: Callable[[ConfirmedChannel], MessageFramer]

    def publish(self, channel: ConfirmedChannel) -> None:
        """Write it to the channel, which sends several writes at once."""
        channel.write(self.framer(channel).frames(self.id, self.body))


class PutEndpoint:
    """What the senders of one process share for one queue: it makes messages and opens channels."""

    def __init__(
        self, queue: ItemQueue, url: str | None, process: str, serializer: Serializer, reply_to: str | None
    ) -> None:
        """Keep the arguments. No connection is opened yet.

        Args:
            queue: the queue to put to.
            url: the broker's URL; None for the one in the settings.
            process: a unique id of this process.
            serializer: makes the bodies of messages.
            reply_to: the queue to which done notices are sent; None if none are wanted.
        """
        self.queue = queue
        self._url = url
        self._process = process
        self._serializer = serializer
        self._reply_to = reply_to
        self._turns = count()
        self._connection: Connection | None = None
        self._framer: tuple[ConfirmedChannel, MessageFramer] | None = None
        self._limit, self._limit_until = _LARGEST, inf

    def message_size(self, item: bytes) -> int:
        """Return how many bytes the body of a message with only this item has."""
        return len(item) + self._serializer.overhead

    def check_size(self, size: int) -> None:
        """Raise if the broker is known to refuse a body of ``size`` bytes.

        Raises:
            MessageRefused: the body is too large.
        """
        if time.monotonic() > self._limit_until:
            self._limit, self._limit_until = _LARGEST, inf
        if size > self._limit:
            raise too_large(size, self._limit)

    def remember_limit(self, error: MessageRefused) -> None:
        """Remember the broker's limit, if the error says it, for :data:`_LIMIT_REMEMBERED` seconds."""
        if error.limit is not None:
            self._limit, self._limit_until = error.limit, time.monotonic() + _LIMIT_REMEMBERED

    def message(self, number: int, items: Sequence[bytes]) -> OutgoingMessage:
        """Return a message with these items. The first has this number, and each next one the next number."""
        return OutgoingMessage(f"{self._process}-{number}", self._serializer.join(items), self._framer_for)

    def open(self, deadline: float) -> ConfirmedChannel:
        """Return a new channel, on a new connection. ``deadline`` is a time of ``time.monotonic``.

        Raises:
            TopologyMismatch: the queue exists with another ``maxsize``.
            BaoziError: as :func:`baozi.amqp.connection.connect`.
        """
        left = deadline - time.monotonic()
        connection = connect(
            f"remote_mp {self.queue.name}, put", left, self._url, first_node=next(self._turns)
        )
        self._connection = connection
        return ConfirmedChannel.declared(connection, lambda: self.queue.declare(connection.default_channel))

    def abandon(self) -> None:
        """In a forked child: close its copy of the parent's connection, and send nothing."""
        if self._connection is not None:
            close_inherited_socket(self._connection)

    def _framer_for(self, channel: ConfirmedChannel) -> MessageFramer:
        if self._framer is None or self._framer[0] is not channel:
            self._framer = (
                channel,
                MessageFramer(
                    channel.number,
                    channel.frame_max,
                    self.queue.broker_name,
                    self._serializer.content_type,
                    self._reply_to,
                ),
            )
        return self._framer[1]


class Sender(Protocol):
    """Puts items. Several threads may use it."""

    def put(self, number: int, item: bytes, deadline: float | None) -> None:
        """Put one item.

        Args:
            number: this process's number for the item.
            item: the serialised item.
            deadline: a time of ``time.monotonic``, until which to wait for room; None to wait for ever.

        Raises:
            QueueFull: there was no room before the deadline. The item is not in the queue.
            BrokerAway, BrokerBlocked: not confirmed in time. The item may be in the queue.
            MessageRefused: the item is larger than the broker accepts. It is not in the queue.
            BaoziError: another error, which is raised at once because waiting does not help.
        """

    def flush(self) -> None:
        """Return when all items that were put are in the queue. Raises the same errors as :meth:`put`."""

    def close(self, *, flush: bool) -> None:
        """Call :meth:`flush` if ``flush`` is set, and close the connection."""

    def abandon(self) -> None:
        """In a forked child: close its copy of the parent's connection, and send nothing."""


class ConfirmedSender:
    """A sender whose ``put`` returns when the broker has confirmed the item. The first ``put`` connects."""

    def __init__(self, endpoint: PutEndpoint, timeout: float) -> None:
        """Keep the endpoint, and how many seconds one exchange with the broker may take."""
        self._endpoint = endpoint
        self._timeout = timeout
        self._lock = Lock()
        self._channel: ConfirmedChannel | None = None

    def put(self, number: int, item: bytes, deadline: float | None) -> None:
        """Put one item. It is in the queue when this returns. See :meth:`Sender.put`."""
        self._endpoint.check_size(self._endpoint.message_size(item))
        stop = stop_never if deadline is None else stop_before_delay(max(0.0, deadline - time.monotonic()))
        tries = Retrying(
            retry=retry_if_exception_type(QueueFull),
            wait=exponential_wait(_FIRST_PAUSE_FULL, _LONGEST_PAUSE_FULL),
            stop=stop,
            reraise=True,
        )
        tries(self._put_if_not_full, self._endpoint.message(number, [item]))

    def flush(self) -> None:
        """Return at once: all items that were put are in the queue."""

    def close(self, *, flush: bool) -> None:  # noqa: ARG002  # there is nothing to flush
        """Close the connection."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def abandon(self) -> None:
        """In a forked child: close its copy of the parent's connection, and send nothing."""
        self._endpoint.abandon()

    def _put_if_not_full(self, message: OutgoingMessage) -> None:
        tries = Retrying(
            retry=retry_if_exception_type(BrokerAway),
            wait=exponential_wait(_FIRST_PAUSE, _LONGEST_PAUSE),
            stop=stop_before_delay(self._timeout),
            reraise=True,
        )
        with self._lock:
            tries(self._publish, message, time.monotonic() + self._timeout)

    def _publish(self, message: OutgoingMessage, deadline: float) -> None:
        # A channel is used again only after a confirm or after the broker's answer that the queue is full.
        channel, self._channel = self._channel or self._endpoint.open(deadline), None
        try:
            channel.publish(lambda _: message.publish(channel), deadline, SILENCE)
        except QueueFull:
            self._channel = channel
            raise
        except BaseException as error:
            channel.abort()
            if isinstance(error, MessageRefused):
                self._endpoint.remember_limit(error)
            raise
        self._channel = channel
