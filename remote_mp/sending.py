"""The way in: an item is put on the broker's queue, and confirmed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from threading import Lock
from typing import Protocol

from kombu import Connection
from tenacity import Retrying, retry_if_exception_type, stop_before_delay, stop_never

from baozi.amqp.confirms import SILENCE, ConfirmedChannel, too_large
from baozi.amqp.connection import connect, let_go
from baozi.errors import BrokerAway, MessageRefused, QueueFull
from baozi.pauses import growing
from remote_mp.declaring import Place
from remote_mp.envelope import Envelope
from remote_mp.serializers import Serializer

#: Seconds of the first and of the longest pause before a queue that was full is tried again: a place in it
#: comes free whenever anybody gets, and the broker tells nobody.
_FIRST_LOOK, _LAST_LOOK = 0.002, 0.1
#: The same before a broker that is away is tried again.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1
#: Bytes of the largest message that any RabbitMQ takes: its ``max_message_size`` cannot be set higher.
_LARGEST = 536_870_912
#: Seconds for which a limit that the broker has told is believed: an administrator may raise it.
_BELIEVED = 60


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message on its way."""

    id: str
    body: bytes
    envelope: Callable[[ConfirmedChannel], Envelope]

    def publish(self, channel: ConfirmedChannel) -> None:
        """Write it out; several are gathered in one write."""
        channel.write(self.envelope(channel).fill(self.id, self.body))


class Door:
    """Opens the channels that one process puts to one queue through, and makes what it puts."""

    def __init__(
        self, place: Place, url: str | None, process: str, form: Serializer, reply_to: str | None
    ) -> None:
        """Open nothing yet.

        Args:
            place: where to.
            url: the broker's; None for that of the settings.
            process: this process's id, like no other.
            form: of the items.
            reply_to: the queue that is to be told what is done, or None.
        """
        self.place = place
        self._url = url
        self._process = process
        self._form = form
        self._reply_to = reply_to
        self._turns = count()
        self._connection: Connection | None = None
        self._envelope: tuple[ConfirmedChannel, Envelope] | None = None
        self._limit, self._limit_until = _LARGEST, inf

    def size_alone(self, item: bytes) -> int:
        """Return how many bytes a message with this one item has."""
        return len(item) + self._form.around

    def see_that_it_is_taken(self, size: int) -> None:
        """Raise if the broker is known to refuse a message of ``size`` bytes.

        Raises:
            MessageRefused: it is.
        """
        if time.monotonic() > self._limit_until:
            self._limit, self._limit_until = _LARGEST, inf
        if size > self._limit:
            raise too_large(size, self._limit)

    def learn(self, error: MessageRefused) -> None:
        """Remember, for a while, the limit that the broker has told."""
        if error.limit is not None:
            self._limit, self._limit_until = error.limit, time.monotonic() + _BELIEVED

    def parcel(self, number: int, items: Sequence[bytes]) -> Parcel:
        """Return a message with these items, of which the first has this number."""
        return Parcel(f"{self._process}-{number}", self._form.tray(items), self._envelope_on)

    def open(self, deadline: float) -> ConfirmedChannel:
        """Return a new channel, on a connection of its own.

        Raises:
            TopologyMismatch: the queue is there with another bound.
            BaoziError: as :func:`baozi.amqp.connection.connect`.
        """
        left = deadline - time.monotonic()
        connection = connect(f"remote_mp {self.place.name}, put", left, self._url, turn=next(self._turns))
        self._connection = connection
        return ConfirmedChannel.declared(connection, lambda: self.place.declare(connection.default_channel))

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        if self._connection is not None:
            let_go(self._connection)

    def _envelope_on(self, channel: ConfirmedChannel) -> Envelope:
        if self._envelope is None or self._envelope[0] is not channel:
            self._envelope = (
                channel,
                Envelope(
                    channel.number,
                    channel.frame_max,
                    self.place.queue,
                    self._form.content_type,
                    self._reply_to,
                ),
            )
        return self._envelope[1]


class Sender(Protocol):
    """A way in. Threads may share it."""

    def put(self, number: int, item: bytes, deadline: float | None) -> None:
        """Put one item.

        Args:
            number: this process's for it.
            item: serialised.
            deadline: on ``time.monotonic``'s clock: how long to wait for a place; None for ever.

        Raises:
            QueueFull: there was no place until the deadline; it is not in the queue.
            BrokerAway, BrokerBlocked: not confirmed in time; it may be in the queue.
            MessageRefused: it is larger than what the broker takes; it is not in the queue.
            BaoziError: at once, for time does not mend it.
        """

    def flush(self) -> None:
        """Return when all that was put is in the queue; raises as :meth:`put`."""

    def close(self, *, flush: bool) -> None:
        """Flush, if that is wanted, and hang up."""

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""


class OneByOne:
    """A way in where ``put`` returns when the broker has the item. Nothing is opened before the first."""

    def __init__(self, door: Door, timeout: float) -> None:
        """Take the ``door``, and the seconds that one exchange with the broker may take."""
        self._door = door
        self._timeout = timeout
        self._lock = Lock()
        self._channel: ConfirmedChannel | None = None

    def put(self, number: int, item: bytes, deadline: float | None) -> None:
        """Put one; it is in the queue when this returns. See :class:`Sender`."""
        self._door.see_that_it_is_taken(self._door.size_alone(item))
        stop = stop_never if deadline is None else stop_before_delay(max(0.0, deadline - time.monotonic()))
        looks = Retrying(
            retry=retry_if_exception_type(QueueFull),
            wait=growing(_FIRST_LOOK, _LAST_LOOK),
            stop=stop,
            reraise=True,
        )
        looks(self._put_if_there_is_a_place, self._door.parcel(number, [item]))

    def flush(self) -> None:
        """Nothing: what was put is in the queue."""

    def close(self, *, flush: bool) -> None:  # noqa: ARG002  # there is nothing to flush
        """Hang up."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._door.abandon()

    def _put_if_there_is_a_place(self, parcel: Parcel) -> None:
        tries = Retrying(
            retry=retry_if_exception_type(BrokerAway),
            wait=growing(_FIRST_PAUSE, _LONGEST_PAUSE),
            stop=stop_before_delay(self._timeout),
            reraise=True,
        )
        with self._lock:
            tries(self._try, parcel, time.monotonic() + self._timeout)

    def _try(self, parcel: Parcel, deadline: float) -> None:
        # Only a channel that did as it should is used again.
        channel, self._channel = self._channel or self._door.open(deadline), None
        try:
            channel.publish(lambda _: parcel.publish(channel), deadline, SILENCE)
        except QueueFull:
            self._channel = channel
            raise
        except BaseException as error:
            channel.abort()
            if isinstance(error, MessageRefused):
                self._door.learn(error)
            raise
        self._channel = channel
