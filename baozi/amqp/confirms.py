"""Publisher confirms with a deadline, and the outcome of each published message.

Celery's and kombu's own confirms wait without a limit while a memory alarm is on, and treat a refusal as a
lost connection. This module listens to the channel's events instead (RabbitMQ guide "Consumer
Acknowledgements and Publisher Confirms"; py-amqp's ``Channel.events``).
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, Self

from amqp.exceptions import AMQPError, ChannelError, PreconditionFailed
from kombu import Connection, Producer

from baozi.amqp.connection import broker_errors, close_inherited_socket, limit_waits
from baozi.amqp.window import Outcome, Window
from baozi.errors import BrokerAway, BrokerBlocked, MessageRefused, QueueFull, Unroutable

#: Bytes of frames that are buffered before they are written: many small writes cost more than one.
_WRITE_BUFFER = 1 << 16
#: Bytes of one write. Each write has a timeout, and a large message on a slow network needs more time than
#: that.
_WRITE_SIZE = 1 << 20
#: The reply text of RabbitMQ when a message is too large.
_TOO_LARGE = re.compile(r"message size (\d+) is larger than configured max size (\d+)")
#: Seconds without any frame from the broker while a confirm is due. After that, a publisher that can try
#: again does so on another connection. A node that has lost its power, or its cluster's majority, never
#: reports it (RabbitMQ guides "Detecting Dead TCP Connections with Heartbeats" and "Quorum Queues").
SILENCE = 8
#: Seconds without an answer after which an idle connection is tested before the next message goes out on it.
#: A load balancer or a firewall drops an idle connection, usually after a minute or more, and tells neither
#: side.
IDLE = 10
#: Seconds within which the broker must answer that test.
_TEST_TIMEOUT = 2


class ConfirmedChannel:
    """A channel in confirm mode on its own connection. Not thread-safe."""

    def __init__(self, connection: Connection) -> None:
        """Use ``connection``, which is open. The channel closes it at the end.

        Raises:
            BrokerAway: the connection was lost.
        """
        self._connection = connection
        self._blocked = False
        self._window = Window()
        self._settled: list[tuple[str, Outcome]] = []
        self._returned = ""
        self._frames: list[bytes] = []
        self._gathered = 0
        self._heard_at = time.monotonic()
        with broker_errors():
            channel: Any = connection.channel()
            self._channel = channel
            self.producer = Producer(channel)
            """kombu's producer on this channel. Use it only within :meth:`send`."""
            self.takes_frames = connection.transport.driver_type == "amqp"
            """Whether :meth:`write` works and the broker confirms; False in memory (``memory://``)."""
            if self.takes_frames:
                self._amqp: Any = connection.connection
                self._listen()
                channel.confirm_select()

    def _listen(self) -> None:
        self._amqp.on_blocked = self._on_blocked
        self._amqp.on_unblocked = self._on_unblocked
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    @classmethod
    def declared(cls, connection: Connection, declare: Callable[[], object]) -> Self:
        """Call ``declare``, which declares the queues on ``connection``, and return a channel on it.

        Raises:
            BaoziError: the declaration failed or the connection was lost. The connection is closed.
        """
        try:
            with broker_errors():
                declare()
            return cls(connection)
        except BaseException:
            connection.collect(socket_timeout=1)
            raise

    @property
    def waiting(self) -> int:
        """How many messages were sent and have no outcome yet."""
        return len(self._window)

    @property
    def number(self) -> int:
        """The channel's number on its connection. Each frame contains it."""
        return int(self._channel.channel_id)

    @property
    def frame_max(self) -> int:
        """Bytes of the largest frame that both sides accept."""
        return int(self._amqp.frame_max)

    def send(self, message_id: str, publish: Callable[["ConfirmedChannel"], object]) -> None:
        """Publish one mandatory message with ``publish``, without waiting for its outcome.

        On a transport without confirms (``memory://``) the message is delivered when ``publish`` returns. If
        this raises, the channel cannot be used any more.

        Args:
            message_id: unique among the messages without an outcome. If there may be several of them, it
                must be the message's ``message_id`` or, without one, its ``correlation_id`` (Celery's task
                id).
            publish: publishes the message through :attr:`producer`, or passes its frames to :meth:`write`.

        Raises:
            ValueError: a message with this id has no outcome yet.
            BrokerAway: the connection was lost. If it was lost while it was idle, nothing was sent.
        """
        idle = self.takes_frames and not self._window and time.monotonic() - self._heard_at > IDLE
        self._window.sent(message_id)
        if idle:
            self._check_broker_answers()
        with broker_errors():
            publish(self)
        if not self.takes_frames:
            self._settled += self._window.confirmed(0, multiple=True)

    def _check_broker_answers(self) -> None:
        """Send a request that changes nothing and needs no permission, and wait for the answer.

        Raises:
            BrokerAway: the broker does not answer in time, or the connection was lost.
        """
        with broker_errors(), limit_waits(self._connection, _TEST_TIMEOUT):
            self._channel.basic_qos(0, 0, False)
        self._heard_at = time.monotonic()

    def write(self, frames: bytes) -> None:
        """Write one whole message's ``frames``.

        They are sent with the next :meth:`flush` or :meth:`wait_for_confirms` at the latest.

        Raises:
            OSError: the connection was lost.
        """
        self._frames.append(frames)
        self._gathered += len(frames)
        if self._gathered >= _WRITE_BUFFER and not self._blocked:
            self._write_out()

    def _write_out(self) -> None:
        if self._frames:
            frames, self._frames, self._gathered = memoryview(b"".join(self._frames)), [], 0
            for start in range(0, len(frames), _WRITE_SIZE):
                self._amqp.transport.write(frames[start : start + _WRITE_SIZE])
            # py-amqp's heartbeats depend on this count, which its own writer would increase.
            self._amqp.bytes_sent += 1

    def flush(self, deadline: float) -> None:
        """Send all buffered frames. Waits while the broker has blocked this connection because of an alarm.

        Raises:
            BrokerBlocked, BrokerAway, MessageRefused: as :meth:`wait_for_confirms`.
        """
        with _publish_errors():
            while self._blocked and self._frames:
                self._drain(deadline)
            self._write_out()

    def wait_for_confirms(self, deadline: float, silence: float = inf) -> list[tuple[str, Outcome]]:
        """Return the ids and outcomes that are new. Waits for the first one if any message has no outcome.

        Args:
            deadline: in seconds, on ``time.monotonic``'s clock.
            silence: seconds without any frame from the broker after which the connection counts as lost.
                Ignored while an alarm is on, because the broker sends nothing then.

        Raises:
            BrokerBlocked: an alarm was on until the deadline. The messages without an outcome may be queued
                or not.
            BrokerAway: the connection was lost or silent. The messages without an outcome may be queued or
                not.
            NotPermitted: this user may not publish here. None of the messages without an outcome is queued.
            MessageRefused: the broker refused one message and closed the channel. That message and those
                sent after it are not queued. Those before it may be queued or not.
        """
        self.flush(deadline)
        with _publish_errors():
            while self._window and not self._settled:
                self._drain(deadline, silence)
        settled, self._settled = self._settled, []
        return settled

    def publish(self, publish: Callable[[Producer], object], deadline: float, silence: float = inf) -> None:
        """Publish one message with ``publish``, which gets the producer, and wait for its outcome.

        Args:
            publish: publishes the message.
            deadline: as for :meth:`wait_for_confirms`.
            silence: as for :meth:`wait_for_confirms`.

        Raises:
            QueueFull: the broker refused the message; it is not queued.
            Unroutable: no queue accepts the message; it is not queued.
            MessageRefused: the broker will never accept the message; it is not queued.
            BrokerBlocked, BrokerAway, NotPermitted: as :meth:`wait_for_confirms`.
        """
        self._returned = ""
        self.send("the only one", lambda channel: publish(channel.producer))
        [(_, outcome)] = self.wait_for_confirms(deadline, silence)
        # Only one message was sent, so a returned message is this one, whatever its id.
        if self._returned:
            raise self.unroutable()
        if outcome is Outcome.REFUSED:
            raise QueueFull()

    def unroutable(self) -> Unroutable:
        """Return the error for the message that was returned last."""
        return Unroutable(
            "No queue takes this message ({returned}). Start a worker, which declares the queue, and"
            " try again.",
            returned=self._returned,
        )

    def _drain(self, deadline: float, silence: float = inf) -> None:
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._connection.drain_events(timeout=left if self._blocked else min(left, silence))
            self._heard_at = time.monotonic()
        except TimeoutError:
            if self._blocked:
                raise BrokerBlocked() from None
            raise BrokerAway("The broker did not confirm in time; see that it is well.") from None

    def close(self) -> None:
        """Close the connection; without AMQP's close if it is blocked or has unconfirmed messages."""
        if self._window or self._blocked:
            self.abort()
            return
        try:
            self._connection.close()
        except (OSError, AMQPError):
            self.abort()

    def abort(self) -> list[tuple[str, Outcome]]:
        """Close the socket without AMQP's close, which a broker that hangs would not answer.

        Returns:
            The outcome of each message that :meth:`wait_for_confirms` has not returned; most are unknown.
        """
        self._connection.collect(socket_timeout=1)
        settled, self._settled = self._settled + self._window.lost(), []
        return settled

    def close_inherited_socket(self) -> None:
        """In a forked child: close the copy of the socket. The parent keeps its connection."""
        close_inherited_socket(self._connection)

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._settled += self._window.confirmed(delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        self._settled += self._window.refused(delivery_tag, multiple)

    def _on_return(self, error: ChannelError, exchange: str, _routing_key: str, message: Any) -> None:
        # The broker returns a message first and confirms it after; the confirm ends the wait.
        self._returned = f"{error.reply_text} from exchange {exchange}"
        properties = message.properties
        self._window.returned(properties.get("message_id") or properties.get("correlation_id") or "")

    def _on_blocked(self, _reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False


@contextmanager
def _publish_errors() -> Iterator[None]:
    """Raise the project's errors. On a channel that only publishes, PreconditionFailed is about a message."""
    with broker_errors():
        try:
            yield
        except PreconditionFailed as error:
            raise _refused(str(error.reply_text)) from error


def _refused(reason: str) -> MessageRefused:
    sizes = _TOO_LARGE.search(reason)
    if sizes is None:
        return MessageRefused("The broker refuses this message, and always will: {reason}.", reason=reason)
    return too_large(*map(int, sizes.groups()))


def too_large(size: int, limit: int) -> MessageRefused:
    """Return the error for a message of ``size`` bytes where the broker accepts ``limit`` bytes."""
    error = MessageRefused(
        "The broker refuses a message of {size:,} bytes: its max_message_size is {limit:,}."
        " Put less in one message, or have an administrator raise the limit.",
        size=size,
        limit=limit,
    )
    error.limit = limit
    return error
