"""The way out: items come from the broker's queue, and stay the broker's until they are finished."""

import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from baozi.amqp.decoding import fault
from remote_mp.declaring import Place, done_queue
from remote_mp.line import Line
from remote_mp.serializers import Serializer, Unreadable
from remote_mp.settling import Delivery, Got, Settlement
from remote_mp.unfinished import Unfinished


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
        self._fetching = False
        """Whether to fetch ahead."""
        self._connections = 0
        self._tags = count(1)
        self._channel: Any = None
        self._consumers: set[str] = set()
        self._arrived: deque[Delivery | Got] = deque()

    # --- what other threads call

    def get(self, block: bool, timeout: float | None) -> Got | None:
        """Return one item, or None when none came.

        Args:
            block: whether to wait for one.
            timeout: seconds to wait; None to wait for ever.

        Raises:
            Unreadable: what came is no item; it is put aside.
            BrokerAway: the broker has been away for too long.
            BaoziError: at once, for time does not mend it.
        """
        waits = block and (timeout is None or timeout > 0)
        came = (self._wait_for_one(timeout) if waits else None) or self._line.ask(self._look, self._undo)
        return self._opened(came) if isinstance(came, Delivery) else came

    def take_back(self, got: Got) -> None:
        """Have it got again, first: whoever got it was interrupted before he had it."""
        with self._line.changed:
            self._arrived.appendleft(got)
            self._line.changed.notify_all()

    def finish(self, got: Got) -> None:
        """Have it acknowledged, as soon as who has put it is told."""
        self._settlement.finish(got)
        self._line.wake()

    def fetch_no_more(self) -> None:
        """Fetch nothing ahead, and give back what nobody has got."""
        self._fetching = False
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

    def _wait_for_one(self, timeout: float | None) -> Delivery | Got | None:
        found: list[Delivery | Got] = []

        def take() -> bool:
            try:
                # One step, within which no interrupt comes.
                found.extend(map(deque.popleft, (self._arrived,)))
            except IndexError:
                return False
            return True

        if not take():
            deadline = None if timeout is None else time.monotonic() + timeout
            mark = object()
            try:
                self._waiting.add(mark)
                self._fetching = True
                self._line.start()
                self._line.wake()
                self._line.wait_for(take, deadline)
            except BaseException:
                self._arrived.extendleft(found)  # interrupted with one in hand: it is for whoever is next
                found.clear()
                raise
            finally:
                self._waiting.discard(mark)
                if not found:
                    self._line.wake()  # where there is a bound, its consumer is one too many
        return found[0] if found else None

    def _opened(self, delivery: Delivery) -> Got:
        """Take the first item off a tray, and leave the others to whoever is next."""
        message = delivery.message
        try:
            unreadable = fault(message)
            if unreadable:
                raise Unreadable(f"A message cannot be read: {unreadable}.")
            items = self._form.loads(message.properties.get("content_type"), message.body)
        except Unreadable as error:
            self._settlement.bury(delivery, str(error))
            self._line.wake()
            raise
        first, *others = [Got(item, delivery, index, len(items)) for index, item in enumerate(items)]
        if others:
            with self._line.changed:
                self._arrived.extendleft(reversed(others))
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
            self._settlement.begin(None)
            self.unfinished.forget()
            self._consumers.clear()
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

    def _undo(self, came: Delivery | Got | None) -> None:
        if came is not None:
            self._arrived.appendleft(came)

    def _count(self, channel: Any) -> int:
        return int(channel.queue_declare(self._place.queue, passive=True).message_count)

    def _fetch_ahead(self) -> None:
        if self._fetching and not self._consumers:
            self._consume()
        elif self._consumers and not self._fetching:
            self._channel.basic_cancel(self._consumers.pop())
            self._give_back_all_but(0)

    def _fetch_what_is_waited_for(self) -> None:
        missing = len(self._waiting) - len(self._arrived) - len(self._consumers)
        for _ in range(missing):
            self._consume()
        for _ in range(min(-missing, len(self._consumers))):
            self._channel.basic_cancel(self._consumers.pop())
        self._give_back_all_but(len(self._waiting))

    def _give_back_all_but(self, kept: int) -> None:
        with self._line.changed:
            arrived = list(self._arrived)
            self._arrived.clear()
            self._arrived.extend(arrived[:kept])
        for one in reversed(arrived[kept:]):
            if isinstance(one, Delivery):
                self._settlement.give_back(one)
            else:
                self._arrived.appendleft(one)  # the first of its tray are got, and they go back together

    def _consume(self) -> None:
        tag = str(next(self._tags))
        self._consumers.add(tag)
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
