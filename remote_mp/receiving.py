"""The way out: items come from the broker's queue, and stay the broker's until they are finished."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from math import inf
from typing import Any

from baozi.amqp.decoding import fault
from remote_mp.declaring import Place, done_queue
from remote_mp.line import Line
from remote_mp.serializers import Serializer, Unreadable
from remote_mp.settling import Delivery, Got, Settlement
from remote_mp.unfinished import Unfinished

#: Seconds until it is looked at again whether a ``get`` has returned the item that it is about to return.
_SOON = 0.001


class Receiver:
    """One process's way out of one queue, and its ear for what becomes of that which it has put.

    Without a bound, messages are fetched ahead. With one, an item leaves the queue when somebody is here to
    take it and not before, for the broker counts only what waits there.
    """

    def __init__(
        self, place: Place, url: str | None, process: str, form: Serializer, prefetch: int, timeout: float
    ) -> None:
        """Open nothing yet.

        Args:
            place: where from.
            url: the broker's; None for that of the settings.
            process: this process's id, like no other.
            form: of the items.
            prefetch: how many messages may wait here; where there is a bound, none.
            timeout: seconds that the broker may be away.
        """
        self._place = place
        self._form = form
        self._prefetch = prefetch
        self._line = Line(f"{place.name}, get", url, timeout, self)
        self._settlement = Settlement()
        self.unfinished = Unfinished(done_queue(process), self._line.changed)
        """What this process has put and nobody has finished."""
        self._waiting: set[object] = set()
        """A mark for each thread that is here to take an item."""
        self._fetches = True
        """Whether to fetch anything: not when the queue is closed."""
        self._connections = 0
        self._tags = count(1)
        self._channel: Any = None
        self._consumers: set[str] = set()
        self._last_tag = self._before_consumer = 0
        """Of the last delivery of this connection, and of the last before the consumer began."""
        self._arrived: deque[Delivery | Got] = deque()

    # --- what other threads call

    def get(self, taken: list[Delivery | Got], block: bool, timeout: float | None) -> Got | None:
        """Return one item, or None when none came.

        Args:
            taken: an empty list, which has the item from the moment at which nobody else can get it. If this
                raises, as an interrupt may at any moment, what is in the list must be taken back.
            block: whether to wait for one.
            timeout: seconds to wait; None to wait for ever.

        Raises:
            Unreadable: what came is no item; it is put aside.
            BrokerAway: the broker has been away for too long.
            BaoziError: at once, for time does not mend it.
        """
        if block and (timeout is None or timeout > 0):
            self._wait_for_one(taken, timeout)
        if not taken:
            came = self._line.ask(self._look, self.take_back)
            if came is not None:
                taken.append(came)
        if not taken:
            return None
        [one] = taken
        return one if isinstance(one, Got) else self._opened(one, taken)

    def take_back(self, one: Delivery | Got | None) -> None:
        """Have it got again, first: the ``get`` that took it was interrupted before it returned it."""
        if isinstance(one, Got):
            # It may be among the finished: there it counts no more.
            one.returned, one = False, one.delivery if one.of == 1 else replace(one)
        if one is None:
            return
        with self._line.changed:
            delivery = one.delivery if isinstance(one, Got) else one
            if self._channel is not None and delivery.connection == self._connections:
                self._arrived.appendleft(one)
                self._line.changed.notify_all()
        self._line.wake()

    def finish(self, got: Got) -> None:
        """Have it acknowledged, as soon as who has put it is told."""
        self._settlement.finish(got)
        self._line.wake()

    def fetch_no_more(self) -> None:
        """Fetch nothing ahead, and give back what nobody has got."""
        self._fetches = False
        self._line.wake()

    def size(self) -> int:
        """Return how many wait to be got: on the broker, and here."""
        return self._line.ask(self._count, lambda _: None) + len(self._arrived)

    def expect(self, number: int) -> None:
        """Remember what this process is about to put; whoever finishes it will be heard.

        Raises:
            BaoziError: as :meth:`get`.
        """
        self.unfinished.add(number)
        if not self.unfinished.is_heard:
            self._line.start()
            self._line.wake()
            self._line.wait_for(lambda: self.unfinished.is_heard, None)

    def join(self, deadline: float | None) -> bool:
        """Return whether all that this process has put was finished by the deadline.

        Raises:
            BaoziError: as :meth:`get`.
        """
        return not self.unfinished or self._line.wait_for(lambda: not self.unfinished, deadline)

    def close(self, timeout: float) -> None:
        """Settle what is finished, give back the rest, and hang up."""
        self._line.close(timeout)

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._line.abandon()

    def _wait_for_one(self, taken: list[Delivery | Got], timeout: float | None) -> None:
        def take() -> bool:
            try:
                # One step, within which no interrupt comes.
                taken.extend(map(deque.popleft, (self._arrived,)))
            except IndexError:
                return False
            return True

        if not take():
            deadline = None if timeout is None else time.monotonic() + timeout
            mark = object()
            try:
                self._waiting.add(mark)
                self._line.start()
                self._line.wake()
                self._line.wait_for(take, deadline)
            finally:
                self._waiting.discard(mark)
                if not taken:
                    self._line.wake()  # where there is a bound, its consumer is one too many

    def _opened(self, delivery: Delivery, taken: list[Delivery | Got]) -> Got:
        """Take the first item off a tray, and leave the others to whoever is next."""
        message = delivery.message
        try:
            unreadable = fault(message)
            if unreadable:
                raise Unreadable(f"A message cannot be read: {unreadable}.")
            items = self._form.loads(message.properties.get("content_type"), message.body)
        except Unreadable as error:
            put_aside, word = self._settlement.to_bury.append, (delivery, str(error))
            del taken[:]  # no interrupt comes between this and the next step
            put_aside(word)
            self._line.wake()
            raise
        got = [Got(item, delivery, index, len(items)) for index, item in enumerate(items)]
        first, others = got[0], got[:0:-1]
        with self._line.changed:
            leave = self._arrived.extendleft
            taken[:] = [first]  # no interrupt comes between this and the next step
            leave(others)
            if others:
                self._line.changed.notify_all()
        return first

    # --- what the line's thread calls

    def opened(self, channel: Any) -> None:
        """Declare, and be ready to consume."""
        self._connections += 1
        self._place.declare(channel)
        channel.auto_decode = False
        channel.callbacks = _One(self._on_delivery)
        self._settlement.begin(channel)
        channel.basic_qos(0, 1 if self._place.maxsize else self._prefetch, False)
        self._channel = channel

    def lost(self) -> None:
        """Forget what the broker gives to others now."""
        with self._line.changed:
            self._channel = None
            self._settlement.begin(None)
            self.unfinished.forget()
            self._consumers.clear()
            self._last_tag = self._before_consumer = 0
            self._arrived.clear()

    def turn(self) -> bool:
        """Have as many consumers as are needed, and settle what is finished."""
        self.unfinished.listen(self._channel.connection)
        if self._place.maxsize:
            self._fetch_what_is_waited_for()
        else:
            self._fetch_ahead()
        self._settlement.settle(self._connections)
        return self._settlement.is_complete

    def next_turn_in(self) -> float:
        """Return the seconds until it is looked at again whether an item's ``get`` has ended."""
        if self._settlement.has_finished:
            return _SOON
        return inf

    def closing(self) -> None:
        """Leave no queue behind that nobody listens to."""
        self.unfinished.close()

    def _look(self, channel: Any) -> Delivery | Got | None:
        """Take the next one, if there is one."""
        # What is on its way to a consumer of ours may come behind the first answer, not behind the second.
        for _ in range(2):
            if self._arrived:
                return self._arrived.popleft()
            message = channel.basic_get(self._place.queue)
            if message is not None:
                return self._delivery(message)
        return self._arrived.popleft() if self._arrived else None

    def _count(self, channel: Any) -> int:
        return int(channel.queue_declare(self._place.queue, passive=True).message_count)

    def _fetch_ahead(self) -> None:
        if self._waiting and self._fetches:
            if self._consumers and not self._arrived and self._is_sated:
                self._cancel()  # the next has a prefetch of its own
            if not self._consumers:
                self._consume()
        elif self._holds_some and not self._fetches:
            self._cancel()
            self._give_back_all_but(0)

    def _cancel(self) -> None:
        # What crosses the word that the consumer ends is taken, behind what came before it.
        for tag in self._consumers:
            self._channel.basic_cancel(tag)
        self._consumers.clear()

    @property
    def _is_sated(self) -> bool:
        """Whether the consumer gets no more before one of its own is finished."""
        return self._settlement.left_since(self._before_consumer) >= self._prefetch

    @property
    def _holds_some(self) -> bool:
        """Whether messages are here, or may come, that others could have."""
        return bool(self._consumers) or self._last_can_go_back

    @property
    def _last_can_go_back(self) -> bool:
        """Whether what arrived last is a whole tray: items of an opened tray are before all others."""
        try:
            return isinstance(self._arrived[-1], Delivery)
        except IndexError:
            return False

    def _fetch_what_is_waited_for(self) -> None:
        missing = len(self._waiting) - len(self._arrived) - len(self._consumers)
        for _ in range(missing):
            self._consume()
        for _ in range(min(-missing, len(self._consumers))):
            self._channel.basic_cancel(self._consumers.pop())
        self._give_back_all_but(len(self._waiting))

    def _give_back_all_but(self, kept: int) -> None:
        # Others may take from the left meanwhile.
        last: deque[Delivery | Got] = deque()
        while len(self._arrived) > kept and self._last_can_go_back:
            with suppress(IndexError):
                last.appendleft(self._arrived.pop())
        # The oldest first: a quorum queue hands them out in the order in which they came back.
        for one in last:
            if isinstance(one, Delivery):
                self._settlement.give_back(one)
            else:
                self._arrived.append(one)

    def _consume(self) -> None:
        # Not a number alone: to a quorum queue, basic_get is a consumer whose tag is the delivery's number.
        # If a consumer has that tag too, RabbitMQ 3.10 ends the connection with INTERNAL_ERROR.
        tag = f"remote_mp-{next(self._tags)}"
        self._consumers.add(tag)
        self._before_consumer = self._last_tag
        self._channel.basic_consume(self._place.queue, consumer_tag=tag)

    def _on_delivery(self, message: Any) -> None:
        tag = message.delivery_info["consumer_tag"]
        delivery = self._delivery(message)
        if tag not in self._consumers:
            self._settlement.give_back(delivery)  # it crossed the word that the consumer ends
            return
        if self._place.maxsize:
            # Its prefetch is 1: until this one is settled it gets no other, and by then it is gone.
            self._consumers.discard(tag)
            self._channel.basic_cancel(tag, nowait=True)
        self._arrived.append(delivery)

    def _delivery(self, message: Any) -> Delivery:
        delivery = Delivery(message, self._connections)
        self._settlement.add(delivery)
        self._last_tag = delivery.tag
        return delivery


class _One(dict[str, Any]):
    """A channel's callbacks: the same for each consumer, also before and after py-amqp knows of it.

    A delivery may come before the broker's word that a consumer begins, and after that it has ended; py-amqp
    would reject it, and write so to stderr.
    """

    def __init__(self, callback: Callable[[Any], None]) -> None:
        super().__init__()
        self._callback = callback

    def __getitem__(self, _tag: str) -> Callable[[Any], None]:
        return self._callback
