"""A publisher with confirms: it sends many messages ahead of their confirms and knows each outcome."""

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
    stop_when_event_set,
)
from tenacity.nap import sleep_using_event

from baozi.amqp.confirms import SILENCE, ConfirmedChannel
from baozi.amqp.window import Outcome
from baozi.backoff import exponential_wait
from baozi.errors import BaoziError, BrokerAway, MessageRefused, QueueFull

#: Seconds of the first and of the longest pause before it tries again when the queue is full or the broker is
#: away.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1
#: The most seconds of one call, because a socket's timeout cannot be infinite.
_LONGEST_TIMEOUT = 86_400


class Message(Protocol):
    """A message that a publisher can put."""

    @property
    def id(self) -> str:
        """Its ``message_id`` or else its ``correlation_id``. Unique among the unconfirmed messages."""

    def publish(self, channel: ConfirmedChannel) -> None:
        """Publish it, mandatory, with the channel's ``producer``, or write its frames with ``write``."""


M = TypeVar("M", bound=Message)
#: All publishers of this process: a forked child must not use its parent's connections.
_publishers: "weakref.WeakSet[ConfirmedPublisher[Any]]" = weakref.WeakSet()


class ConfirmedPublisher(Generic[M]):
    """Puts messages. Up to ``window`` of them may be unconfirmed. Not thread-safe.

    It sends a message again if the broker refused it, or if the connection was lost before the confirm. In
    the second case the queue may have the message twice, with the same id. A call that raises discards all
    unconfirmed messages and lists their ids in the error's ``unsettled``; the caller may put them again.

    A forked child starts without messages. The unconfirmed ones remain the parent's, and the child's first
    put opens a new connection.
    """

    def __init__(
        self,
        open_channel: Callable[[float], ConfirmedChannel],
        on_confirmed: Callable[[Sequence[M]], object],
        window: int,
        timeout: float,
        stop: Event | None = None,
        size: Callable[[M], int] = lambda _: 0,
    ) -> None:
        """Make a publisher. The first put opens its connection.

        Args:
            open_channel: called when there is no connection, with a deadline in seconds on
                ``time.monotonic``'s clock. Returns a new channel, or raises the errors of :meth:`put_ahead`.
            on_confirmed: called with the messages that the broker has confirmed.
            window: how many messages may be unconfirmed. With 1, they are always queued in the order of the
                puts.
            timeout: seconds that one call may take.
            stop: after it is set, a call does not try again.
            size: returns a message's size in bytes. A message that is larger than all that the broker has
                accepted is sent alone. If the broker refuses it, the outcome of all others is known.
        """
        self._open_channel = open_channel
        self._on_confirmed = on_confirmed
        self._window_size = window
        self._timeout = timeout
        self._stop = stop or Event()
        self._channel: ConfirmedChannel | None = None
        self._unsettled: dict[str, M] = {}
        self._to_send: deque[M] = deque()
        self._size_of = size
        self._largest_accepted = 0
        """The size of the largest message that the broker has accepted."""
        self._sending_alone = False
        """Whether a message is being sent alone, because the broker may refuse it."""
        self._one_by_one = False
        """Whether each message is sent alone, because the broker has refused one of several."""
        _publishers.add(self)

    def put_ahead(self, messages: Sequence[M], timeout: float | None = None) -> None:
        """Send ``messages``. Waits only for room in the window.

        Args:
            messages: the messages; none has the id of an unconfirmed message.
            timeout: seconds that this may take.

        Raises:
            ValueError: a message with this id is unconfirmed. None of ``messages`` is put.
            QueueFull: the broker refused some messages until the deadline.
            Unroutable: no queue accepts one of them.
            BrokerAway, BrokerBlocked: there was no room until the deadline.
            BrokerRefused, NoVirtualHost, NotPermitted, TopologyMismatch: at once, because a retry cannot
                help.
            MessageRefused: at once. The broker will never accept the message whose id is in ``refused``.
        """
        self._enqueue(messages)
        self._retry_until(lambda: not self._to_send, timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the broker has confirmed all messages.

        Raises:
            BaoziError: as :meth:`put_ahead`.
        """
        self._retry_until(lambda: not self._unsettled, timeout)

    def put(self, message: M, timeout: float | None = None) -> None:
        """Put one message, and wait until the broker has confirmed it and all before it.

        Raises:
            ValueError, BaoziError: as :meth:`put_ahead`.
        """
        self._enqueue([message])
        self.flush(timeout)

    def close(self) -> None:
        """Flush, and close the connection, if one is open.

        Raises:
            BaoziError: as :meth:`flush`. The connection is closed in any case.
        """
        self.flush()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def abort(self) -> None:
        """Close the connection at once. Unconfirmed messages may be queued or not."""
        self._discard_unsettled()

    def _enqueue(self, messages: Sequence[M]) -> None:
        new = {message.id: message for message in messages}
        if len(new) < len(messages) or not self._unsettled.keys().isdisjoint(new):
            raise ValueError("a message with this id is being sent")
        self._unsettled |= new
        self._to_send += messages

    def _retry_until(self, done: Callable[[], bool], timeout: float | None) -> None:
        if done():
            return
        limit = self._timeout if timeout is None else min(timeout, _LONGEST_TIMEOUT)
        deadline = time.monotonic() + limit
        tries = Retrying(
            retry=retry_if_exception_type((QueueFull, BrokerAway)),
            wait=exponential_wait(_FIRST_PAUSE, _LONGEST_PAUSE),
            stop=stop_before_delay(limit) | stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        try:
            tries(self._try, done, deadline)
        except BaoziError as error:
            error.unsettled = self._discard_unsettled()
            raise

    def _try(self, done: Callable[[], bool], deadline: float) -> None:
        channel = self._channel or self._open_channel(deadline)
        # A channel is used again only if nothing failed on it.
        self._channel = None
        try:
            self._send(channel, deadline)
            while not done():
                self._record_and_raise(channel, channel.wait_for_confirms(deadline, SILENCE))
                self._send(channel, deadline)
        except QueueFull:
            self._channel = channel
            raise
        except MessageRefused as error:
            lost = channel.abort()
            self._record_outcomes(lost)
            unknown = [message_id for message_id, outcome in lost if outcome is Outcome.UNKNOWN]
            if len(unknown) > 1:
                # It is not known which one was refused, so all are sent again, one by one. Some may then be
                # queued twice.
                self._one_by_one = True
                raise BrokerAway(str(error)) from error
            error.refused = "".join(unknown)
            raise
        except BaseException:
            self._record_outcomes(channel.abort())
            raise
        self._channel = channel

    def _send(self, channel: ConfirmedChannel, deadline: float) -> None:
        """Send what the window has room for. After it was full, wait until half of it is free."""
        size = 1 if self._one_by_one else self._window_size
        room = size - channel.waiting
        self._sending_alone = self._sending_alone and bool(channel.waiting)
        if self._sending_alone or not self._to_send or room < min(len(self._to_send), (size + 1) // 2):
            return
        for _ in range(min(room, len(self._to_send))):
            larger = self._size_of(self._to_send[0]) > self._largest_accepted
            if larger and channel.waiting:
                break
            message = self._to_send.popleft()
            channel.send(message.id, message.publish)
            if larger:
                self._sending_alone = True
                break
        channel.flush(deadline)

    def _record_and_raise(self, channel: ConfirmedChannel, settled: Sequence[tuple[str, Outcome]]) -> None:
        outcomes = self._record_outcomes(settled)
        if Outcome.RETURNED in outcomes:
            raise channel.unroutable()
        if Outcome.REFUSED in outcomes:
            raise QueueFull()

    def _record_outcomes(self, settled: Sequence[tuple[str, Outcome]]) -> set[Outcome]:
        """Report the confirmed messages, put the others first in the send queue; return the outcomes."""
        confirmed: list[M] = []
        again: list[M] = []
        outcomes = set()
        for message_id, outcome in settled:
            outcomes.add(outcome)
            if outcome is Outcome.CONFIRMED:
                message = self._unsettled.pop(message_id)
                confirmed.append(message)
                self._largest_accepted = max(self._largest_accepted, self._size_of(message))
            else:
                again.append(self._unsettled[message_id])
        self._to_send.extendleft(reversed(again))
        self._one_by_one = self._one_by_one and bool(self._unsettled)
        if confirmed:
            self._on_confirmed(confirmed)
        return outcomes

    def reset_after_fork(self) -> None:
        """After a fork, forget the parent's messages and connection."""
        self._unsettled.clear()
        self._to_send.clear()
        if self._channel is not None:
            self._channel.close_inherited_socket()
            self._channel = None

    def _discard_unsettled(self) -> list[str]:
        unsettled = list(self._unsettled)
        self._unsettled.clear()
        self._to_send.clear()
        self._one_by_one = False
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.abort()
        return unsettled

    def __enter__(self) -> Self:
        """Return the publisher itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it. After an error, close it at once."""
        if error is None:
            self.close()
        else:
            self.abort()


def _reset_after_fork() -> None:
    for inherited in list(_publishers):
        inherited.reset_after_fork()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_reset_after_fork)
