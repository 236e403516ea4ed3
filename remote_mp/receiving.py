"""Gets items from the broker's queue. The broker keeps each message until its items are finished."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from math import inf
from typing import Any

from baozi.amqp.decoding import fault
from remote_mp.acknowledging import Acknowledger, ReceivedItem, ReceivedMessage
from remote_mp.connection_thread import KeptConnection
from remote_mp.serializers import Serializer, Unreadable
from remote_mp.topology import ItemQueue, done_queue
from remote_mp.unfinished import UnfinishedPuts

#: Seconds until the next check whether a ``get`` has returned the item that it is about to return.
_GET_RETURNS = 0.001
#: Seconds without a ``get`` after which the prefetched messages return to the queue. A consumer that gets an
#: item more often keeps its prefetch; for a slower one, to prefetch again takes little beside its work.
_IDLE = 1.0


class Receiver:
    """What one process uses to get items from one queue, and to receive done notices for what it put.

    Without a ``maxsize``, messages are prefetched. If no thread calls ``get`` for a second, they return to
    the queue, so that other processes get them. With a ``maxsize``, a consumer exists only while a thread
    waits for an item, because the broker's limit counts only the messages that wait on the broker.
    """

    def __init__(
        self,
        queue: ItemQueue,
        url: str | None,
        process: str,
        serializer: Serializer,
        prefetch: int,
        timeout: float,
    ) -> None:
        """Keep the arguments. No connection is opened yet.

        Args:
            queue: the queue to get from.
            url: the broker's URL; None for the one in the settings.
            process: a unique id of this process.
            serializer: reads the items of a message.
            prefetch: how many messages may be prefetched, if there is no ``maxsize``.
            timeout: how many seconds a call waits for a broker that is away before it raises.
        """
        self._queue = queue
        self._serializer = serializer
        self._prefetch = prefetch
        self._connection = KeptConnection(f"{queue.name}, get", url, timeout, self)
        self._acknowledger = Acknowledger()
        self.unfinished = UnfinishedPuts(done_queue(process), self._connection.condition)
        """What this process put and no process has finished."""
        self._waiting: set[object] = set()
        """A mark for each thread that waits for an item."""
        self._may_fetch = True
        """Whether to get messages from the broker: False after the queue was closed."""
        self._last_get = 0.0
        """When ``get`` was last called, or last returned from waiting, on ``time.monotonic``'s clock."""
        self._connection_number = 0
        """The number of the current connection, from 1."""
        self._tags = count(1)
        self._channel: Any = None
        self._consumers: set[str] = set()
        """The tags of the consumers on the broker."""
        self._last_tag = self._before_consumer = 0
        """The delivery tag of the last message, and of the last message before the consumer started."""
        self._arrived: deque[ReceivedMessage | ReceivedItem] = deque()
        """What the next calls of ``get`` take: items of messages that were read, then messages."""

    # --- called by any thread

    def get(
        self, taken: list[ReceivedMessage | ReceivedItem], block: bool, timeout: float | None
    ) -> ReceivedItem | None:
        """Return one item; None if there was none in time.

        Args:
            taken: an empty list. It has the item from the moment at which no other ``get`` can take it. If
                this method raises, as an interrupt may make it do at any moment, the caller must put back
                what is in the list.
            block: whether to wait for an item.
            timeout: seconds to wait; None to wait for ever.

        Raises:
            Unreadable: a message was not an item. It is moved to ``remote_mp.dead``.
            BrokerAway: the broker has been away for longer than the timeout.
            BaoziError: another error, which is raised at once because waiting does not help.
        """
        self._last_get = time.monotonic()
        if block and (timeout is None or timeout > 0):
            self._wait_for_one(taken, timeout)
        if not taken:
            came = self._connection.call_in_thread(self._take_or_fetch, self.put_back)
            if came is not None:
                taken.append(came)
        if not taken:
            return None
        [one] = taken
        return one if isinstance(one, ReceivedItem) else self._read(one, taken)

    def put_back(self, one: ReceivedMessage | ReceivedItem | None) -> None:
        """Make the next ``get`` take this: the ``get`` that took it was interrupted before it returned."""
        if isinstance(one, ReceivedItem):
            # It may be among the finished items. With ``returned`` False it is not counted there.
            one.returned, one = False, one.received if one.of == 1 else replace(one)
        if one is None:
            return
        with self._connection.condition:
            received = one.received if isinstance(one, ReceivedItem) else one
            if self._channel is not None and received.connection == self._connection_number:
                self._arrived.appendleft(one)
                self._connection.condition.notify_all()
        self._connection.wake()

    def finish(self, item: ReceivedItem) -> None:
        """Finish an item: the process that put it is notified, and then its message is acknowledged."""
        self._acknowledger.finish(item)
        self._connection.wake()

    def stop_fetching(self) -> None:
        """Stop prefetching, and return to the queue the messages that no ``get`` has taken."""
        self._may_fetch = False
        self._connection.wake()

    def size(self) -> int:
        """Return how many messages wait on the broker, plus what has arrived here and was not taken."""
        return self._connection.call_in_thread(self._count, lambda _: None) + len(self._arrived)

    def expect(self, number: int) -> None:
        """Add the number of an item that this process is about to put, so that ``join`` waits for it.

        Raises:
            BaoziError: as :meth:`get`.
        """
        self.unfinished.add(number)
        if not self.unfinished.is_consuming:
            self._connection.start()
            self._connection.wake()
            self._connection.wait_for(lambda: self.unfinished.is_consuming, None)

    def join(self, deadline: float | None) -> bool:
        """Return whether everything that this process put was finished before the deadline.

        Args:
            deadline: a time of ``time.monotonic``; None to wait for ever.

        Raises:
            BaoziError: as :meth:`get`.
        """
        return not self.unfinished or self._connection.wait_for(lambda: not self.unfinished, deadline)

    def close(self, timeout: float) -> None:
        """Acknowledge what is finished, within ``timeout`` seconds, and close the connection.

        The broker redelivers what is not finished.
        """
        self._connection.close(timeout)

    def abandon(self) -> None:
        """In a forked child: close its copy of the parent's connection, and send nothing."""
        self._connection.abandon()

    def _wait_for_one(self, taken: list[ReceivedMessage | ReceivedItem], timeout: float | None) -> None:
        def take() -> bool:
            try:
                # One step, in which no interrupt can come.
                taken.extend(map(deque.popleft, (self._arrived,)))
            except IndexError:
                return False
            return True

        if not take():
            deadline = None if timeout is None else time.monotonic() + timeout
            mark = object()
            try:
                self._waiting.add(mark)
                self._connection.start()
                self._connection.wake()
                self._connection.wait_for(take, deadline)
            finally:
                self._last_get = time.monotonic()
                self._waiting.discard(mark)
                # With a maxsize, there may be one consumer too many. Without one, the time begins after which
                # prefetched messages return to the queue.
                self._connection.wake()

    def _read(self, received: ReceivedMessage, taken: list[ReceivedMessage | ReceivedItem]) -> ReceivedItem:
        """Return the first item of a message, and leave its other items to the next calls of ``get``."""
        message = received.message
        try:
            unreadable = fault(message)
            if unreadable:
                raise Unreadable(f"A message cannot be read: {unreadable}.")
            items = self._serializer.loads(message.properties.get("content_type"), message.body)
        except Unreadable as error:
            add_dead, dead = self._acknowledger.dead.append, (received, str(error))
            del taken[:]  # no interrupt can come between this and the next step
            add_dead(dead)
            self._connection.wake()
            raise
        read = [ReceivedItem(item, received, index, len(items)) for index, item in enumerate(items)]
        first, others = read[0], read[:0:-1]
        with self._connection.condition:
            leave = self._arrived.extendleft
            taken[:] = [first]  # no interrupt can come between this and the next step
            leave(others)
            if others:
                self._connection.condition.notify_all()
        return first

    # --- called by the connection's thread

    def on_open(self, channel: Any) -> None:
        """Declare the queue, and prepare to consume it."""
        self._connection_number += 1
        self._queue.declare(channel)
        channel.auto_decode = False
        channel.callbacks = _CallbackForAll(self._on_delivery)
        self._acknowledger.use(channel)
        channel.basic_qos(0, 1 if self._queue.maxsize else self._prefetch, False)
        self._channel = channel

    def on_lost(self) -> None:
        """Forget all messages of the connection: the broker redelivers them."""
        with self._connection.condition:
            self._channel = None
            self._acknowledger.use(None)
            self.unfinished.on_lost()
            self._consumers.clear()
            self._last_tag = self._before_consumer = 0
            self._arrived.clear()

    def work(self) -> bool:
        """Start and cancel consumers as needed, and acknowledge. Return whether nothing is left to do."""
        self.unfinished.consume(self._channel.connection)
        if self._queue.maxsize:
            self._fetch_for_waiting()
        else:
            self._fetch_ahead()
        self._acknowledger.send(self._connection_number)
        return self._acknowledger.is_done

    def seconds_to_next_work(self) -> float:
        """Return a short time while an item is finished whose ``get`` has not returned.

        Else return the time until prefetched messages return to the queue; infinity if there are none.
        """
        if self._acknowledger.has_finished:
            return _GET_RETURNS
        if self._queue.maxsize or self._waiting or not self._holds_messages:
            return inf
        return max(0.0, self._idle_at - time.monotonic())

    def before_close(self) -> None:
        """Delete the queue of this process's done notices."""
        self.unfinished.close()

    def _take_or_fetch(self, channel: Any) -> ReceivedMessage | ReceivedItem | None:
        """Return what has arrived first or, if nothing has arrived, the queue's next message, if any."""
        # A message that is on its way to a consumer here may arrive after the first answer, but it arrives
        # before the second.
        for _ in range(2):
            if self._arrived:
                return self._arrived.popleft()
            message = channel.basic_get(self._queue.broker_name)
            if message is not None:
                return self._add_received(message)
        return self._arrived.popleft() if self._arrived else None

    def _count(self, channel: Any) -> int:
        return int(channel.queue_declare(self._queue.broker_name, passive=True).message_count)

    def _fetch_ahead(self) -> None:
        if self._waiting and self._may_fetch:
            if self._consumers and not self._arrived and self._prefetch_is_used_up:
                self._cancel()  # the next consumer has a prefetch of its own
            if not self._consumers:
                self._consume()
        elif self._holds_messages and (not self._may_fetch or time.monotonic() >= self._idle_at):
            self._cancel()
            self._requeue_all_but(0)

    def _cancel(self) -> None:
        # Messages that the broker sends before it cancels are accepted: they come after those that are here.
        for tag in self._consumers:
            self._channel.basic_cancel(tag)
        self._consumers.clear()

    @property
    def _idle_at(self) -> float:
        """When the prefetched messages return to the queue if no ``get`` is called before."""
        return self._last_get + _IDLE

    @property
    def _prefetch_is_used_up(self) -> bool:
        """Whether the consumer gets no message until one of its messages is acknowledged."""
        return self._acknowledger.count_after(self._before_consumer) >= self._prefetch

    @property
    def _holds_messages(self) -> bool:
        """Whether messages are here, or may arrive, that other processes could get."""
        return bool(self._consumers) or self._last_can_be_requeued

    @property
    def _last_can_be_requeued(self) -> bool:
        """Whether what arrived last is a message, not an item of a message that was read."""
        try:
            return isinstance(self._arrived[-1], ReceivedMessage)
        except IndexError:
            return False

    def _fetch_for_waiting(self) -> None:
        """Have as many consumers as threads wait for an item. Each consumer gets one message."""
        missing = len(self._waiting) - len(self._arrived) - len(self._consumers)
        for _ in range(missing):
            self._consume()
        for _ in range(min(-missing, len(self._consumers))):
            self._channel.basic_cancel(self._consumers.pop())
        self._requeue_all_but(len(self._waiting))

    def _requeue_all_but(self, kept: int) -> None:
        # Other threads may take from the left meanwhile.
        last: deque[ReceivedMessage | ReceivedItem] = deque()
        while len(self._arrived) > kept and self._last_can_be_requeued:
            with suppress(IndexError):
                last.appendleft(self._arrived.pop())
        # The oldest first: a quorum queue redelivers messages in the order in which they came back.
        for one in last:
            if isinstance(one, ReceivedMessage):
                self._acknowledger.requeue(one)
            else:
                self._arrived.append(one)

    def _consume(self) -> None:
        # The tag is not only a number: for basic_get, a quorum queue uses the delivery's number as a consumer
        # tag. If a consumer has the same tag, RabbitMQ 3.10 ends the connection with INTERNAL_ERROR.
        tag = f"remote_mp-{next(self._tags)}"
        self._consumers.add(tag)
        self._before_consumer = self._last_tag
        self._channel.basic_consume(self._queue.broker_name, consumer_tag=tag)

    def _on_delivery(self, message: Any) -> None:
        tag = message.delivery_info["consumer_tag"]
        received = self._add_received(message)
        if tag not in self._consumers:
            self._acknowledger.requeue(received)  # the broker sent it before it cancelled the consumer
            return
        if self._queue.maxsize:
            # Its prefetch is 1: it gets no other message before this one is acknowledged, and by then it is
            # cancelled.
            self._consumers.discard(tag)
            self._channel.basic_cancel(tag, nowait=True)
        self._arrived.append(received)

    def _add_received(self, message: Any) -> ReceivedMessage:
        received = ReceivedMessage(message, self._connection_number)
        self._acknowledger.add(received)
        self._last_tag = received.tag
        return received


class _CallbackForAll(dict[str, Any]):
    """The callbacks of a channel: the same for each consumer tag, also for one that py-amqp does not know.

    A message may arrive before the broker's answer that a consumer was started, and after the answer that it
    was cancelled. py-amqp would reject such a message, and write so to stderr.
    """

    def __init__(self, callback: Callable[[Any], None]) -> None:
        super().__init__()
        self._callback = callback

    def __getitem__(self, _tag: str) -> Callable[[Any], None]:
        return self._callback
