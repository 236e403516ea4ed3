"""Publishing ahead of the confirms: many messages are under way at once, and the fate of each is known."""

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

#: Seconds of the first and of the longest pause before a full queue or a broker that is away is tried again.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1
#: Seconds that a call may take, whatever it asks for: a socket's timeout cannot be infinite.
_LONGEST_TIMEOUT = 86_400


class Message(Protocol):
    """What a publisher can put."""

    @property
    def id(self) -> str:
        """Its ``message_id`` or, without one, its ``correlation_id``; no two under way have the same."""

    def publish(self, channel: ConfirmedChannel) -> None:
        """Publish it, mandatory, through the channel's ``producer`` or, framed, with its ``write``."""


M = TypeVar("M", bound=Message)
#: All of this process: a forked child begins with connections of its own.
_publishers: "weakref.WeakSet[ConfirmedPublisher[Any]]" = weakref.WeakSet()


class ConfirmedPublisher(Generic[M]):
    """Puts messages, up to a window of them ahead of the broker's confirms. Not to be shared between threads.

    What the broker refuses is put again, and so is what was under way on a connection that was lost: it may
    then be there twice, under the same id. A call that raises gives up all that was put and is not confirmed,
    and lists it in the error's ``unsettled``: the caller may put it again, to be sure.

    In a forked child it begins anew: what was put and not confirmed at the fork stays the parent's to settle,
    and the child's first put opens a connection of its own.
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
        """Open nothing before the first put.

        Args:
            open_channel: called with a deadline on ``time.monotonic``'s clock, in seconds, whenever there is
                no connection; returns a new channel, or raises as :meth:`put_ahead` may.
            on_confirmed: called, as soon as it is known, with those that the broker has.
            window: how many may wait for their confirm at once; with 1, they are queued in the order of the
                puts whatever happens.
            timeout: seconds that one call may take.
            stop: when it is set, a call gives up at its present try.
            size: returns how large a message is, in bytes. One that is larger than any which the broker has
                taken is sent alone: should the broker refuse it, no other is in doubt.
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
        """The size of the largest that the broker has taken."""
        self._sending_alone = False
        """Whether a message goes out alone now, because the broker may refuse it."""
        self._one_by_one = False
        """Whether all go alone, because the broker has refused one of several."""
        _publishers.add(self)

    def put_ahead(self, messages: Sequence[M], timeout: float | None = None) -> None:
        """Send ``messages``, waiting only for room in the window.

        Args:
            messages: what to put, each with an id that is not under way.
            timeout: seconds that this may take.

        Raises:
            ValueError: one with this id is under way; none of ``messages`` is put.
            QueueFull: the broker refused some until the deadline.
            Unroutable: no queue takes one of them.
            BrokerAway, BrokerBlocked: there was no room until the deadline.
            BrokerRefused, NoVirtualHost, NotPermitted, TopologyMismatch: at once; a retry cannot help.
            MessageRefused: at once; the broker will never take the one that the error names in ``refused``.
        """
        self._enqueue(messages)
        self._retry_until(lambda: not self._to_send, timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Return when the broker has all that was put.

        Raises:
            BaoziError: as :meth:`put_ahead`.
        """
        self._retry_until(lambda: not self._unsettled, timeout)

    def put(self, message: M, timeout: float | None = None) -> None:
        """Put one message; return when the broker has it, and all before it.

        Raises:
            ValueError, BaoziError: as :meth:`put_ahead`.
        """
        self._enqueue([message])
        self.flush(timeout)

    def close(self) -> None:
        """Flush, and close the connection, if one is open.

        Raises:
            BaoziError: as :meth:`flush`; the connection is closed all the same.
        """
        self.flush()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def abort(self) -> None:
        """Close the connection as it is. What is not confirmed may be queued or not."""
        self._discard_unsettled()

    def _enqueue(self, messages: Sequence[M]) -> None:
        new = {message.id: message for message in messages}
        if len(new) < len(messages) or not self._unsettled.keys().isdisjoint(new):
            raise ValueError("a message with this id is under way")
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
        # Only a channel that did as it should is used again.
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
                # One by one, it will be seen which. Those that the broker has already are there twice, then.
                self._one_by_one = True
                raise BrokerAway(str(error)) from error
            error.refused = "".join(unknown)
            raise
        except BaseException:
            self._record_outcomes(channel.abort())
            raise
        self._channel = channel

    def _send(self, channel: ConfirmedChannel, deadline: float) -> None:
        """Send what there is room for. Once the window was full, not before half of it is free again."""
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
        """Tell of the confirmed, put the others before what is still to be sent; return the fates."""
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
        """Leave to the parent, after a fork, what is the parent's."""
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
        """Close it; when an error has come, without waiting for anything."""
        if error is None:
            self.close()
        else:
            self.abort()


def _reset_after_fork() -> None:
    for inherited in list(_publishers):
        inherited.reset_after_fork()


os.register_at_fork(after_in_child=_reset_after_fork)
