"""Publisher confirms with a deadline: a put returns when the broker has it, or says why it does not.

Celery's and kombu's own confirms wait without a bound while a memory alarm is on, and take a refusal for a
lost connection. Here the channel's events are listened to instead (RabbitMQ guide "Consumer Acknowledgements
and Publisher Confirms"; py-amqp's ``Channel.events``).
"""

import time
from collections.abc import Callable
from typing import Any

from amqp.exceptions import AMQPError, ChannelError
from kombu import Connection, Producer

from baozi.errors import BrokerAway, BrokerBlocked, QueueFull, Unroutable
from tasks.connection import using


class ConfirmedChannel:
    """A channel in confirm mode, one message at a time, on a connection of its own."""

    def __init__(self, connection: Connection) -> None:
        """Take over ``connection``, open.

        Raises:
            BrokerAway: the connection was lost.
        """
        self._connection = connection
        self._blocked = False
        self._fate: str | None = None
        self._returned = ""
        with using():
            channel: Any = connection.channel()
            self._channel = channel
            self._confirms = connection.transport.driver_type == "amqp"
            if self._confirms:
                self._listen(connection.connection)
                self._channel.confirm_select()

    def _listen(self, amqp: Any) -> None:
        amqp.on_blocked = self._on_blocked
        amqp.on_unblocked = self._on_unblocked
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    def publish(self, send: Callable[[Producer], object], deadline: float) -> None:
        """Let ``send`` publish one mandatory message, and wait for its fate.

        A transport without confirms (``memory://``) has it when ``send`` returns.

        Args:
            send: publishes exactly one message through the producer that it is given.
            deadline: on ``time.monotonic``'s clock, in seconds.

        Raises:
            QueueFull: the broker refused it; it was not queued.
            Unroutable: no queue takes it; it was not queued.
            BrokerBlocked: an alarm was on until the deadline; whether it was queued is unknown.
            BrokerAway: the connection was lost or silent; whether it was queued is unknown.
            NotPermitted: this user may not publish here.
        """
        self._fate = None
        self._returned = ""
        with using():
            send(Producer(self._channel))
            while self._confirms and self._fate is None:
                self._drain(deadline)
        if self._returned:
            raise Unroutable(
                f"No queue takes this message ({self._returned}): start a worker, which declares the queue,"
                " then try again."
            )
        if self._fate == "refused":
            raise QueueFull()

    def _drain(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._connection.drain_events(timeout=left)
        except TimeoutError:
            if self._blocked:
                raise BrokerBlocked() from None
            raise BrokerAway("The broker did not confirm in time; see that it is well.") from None

    def close(self) -> None:
        """Close the connection, politely if it is well: what hangs or is blocked is cut."""
        if self._fate is not None and not self._blocked:
            try:
                self._connection.close()
            except (OSError, AMQPError):
                self.abort()
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection without a word, since a broker that hangs would not answer one."""
        self._connection.collect(socket_timeout=1)

    def _on_ack(self, _delivery_tag: int, _multiple: bool) -> None:
        self._fate = "confirmed"

    def _on_nack(self, _delivery_tag: int, _multiple: bool) -> None:
        self._fate = "refused"

    def _on_return(self, error: ChannelError, exchange: str, _routing_key: str, _message: object) -> None:
        # The broker returns a message first and confirms it after; the confirm ends the wait.
        self._returned = f"{error.reply_text} from exchange {exchange}"

    def _on_blocked(self, _reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False
