"""Unfinished items: those that this process put, which ``join`` waits for, and those that it got.

An item is finished when a process that got it calls ``task_done``.
"""

import json
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Generic, TypeVar

from remote_mp.condition import InterruptSafeCondition
from remote_mp.topology import declare_done_queue

Item = TypeVar("Item")


class UnfinishedPuts:
    """The numbers of the items that this process put and no process has finished.

    A process that finishes items sends their numbers, a done notice, to a queue of the process that put them.
    They are numbers and not a count, because an item that was redelivered may be finished twice.
    """

    def __init__(self, queue: str, condition: InterruptSafeCondition) -> None:
        """Keep the name of the queue of done notices, and the condition to notify of each change."""
        self._queue = queue
        self._condition = condition
        self._numbers: set[int] = set()
        self._channel: Any = None
        self.wanted = False
        """Whether this process has put an item, so that it needs done notices."""

    def __len__(self) -> int:
        """Return how many items are unfinished."""
        return len(self._numbers)

    @property
    def is_consuming(self) -> bool:
        """Whether the connection is open and consumes the queue of done notices."""
        return self._channel is not None

    def add(self, number: int) -> None:
        """Add the number of an item that is about to be put."""
        with self._condition:
            self.wanted = True
            self._numbers.add(number)

    def discard(self, number: int) -> None:
        """Remove the number of an item that was not put."""
        with self._condition:
            self._numbers.discard(number)

    # --- called by the connection's thread

    def consume(self, amqp: Any) -> None:
        """Consume the queue of done notices, on a channel of its own, if this process has put an item."""
        if self.wanted and self._channel is None:
            channel = amqp.channel()
            channel.auto_decode = False
            declare_done_queue(channel, self._queue)
            channel.basic_consume(self._queue, consumer_tag=self._queue, callback=self._on_notice)
            with self._condition:
                self._channel = channel
                self._condition.notify_all()

    def on_lost(self) -> None:
        """Forget the channel: the connection is lost. The queue keeps the notices that come meanwhile."""
        self._channel = None

    def close(self) -> None:
        """Delete the queue of done notices."""
        if self._channel is not None:
            self._channel.basic_cancel(self._queue)
            self._channel.queue_delete(self._queue)

    def _on_notice(self, message: Any) -> None:
        numbers = _numbers_of(message.body)
        with self._condition:
            self._numbers.difference_update(numbers)
            self._condition.notify_all()
        self._channel.basic_ack(message.delivery_info["delivery_tag"])


def _numbers_of(body: bytes) -> list[int]:
    """Return the numbers in a done notice; none if the body is not a done notice."""
    try:
        numbers = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return [one for one in numbers if isinstance(one, int)] if isinstance(numbers, list) else []


class UnfinishedGets(Generic[Item]):
    """The items that this process got and has not finished, by the thread that got them, oldest first.

    ``task_done`` does not say which item it finishes. If the calling thread got an unfinished item, it
    finishes that thread's oldest. If not, the thread finishes an item that another thread gave to it, and
    that can only be the oldest of the process.
    """

    def __init__(self) -> None:
        """Begin with no item."""
        self._lock = threading.Lock()
        self._numbers = count()
        self._by_thread: dict[int, deque[tuple[int, Item]]] = {}

    def add(self, item: Item) -> None:
        """Add an item that this thread got."""
        with self._lock:
            thread = threading.get_ident()
            entry = next(self._numbers), item
            # Each of the two is one step, in which no interrupt can come. So no deque is ever empty.
            if thread in self._by_thread:
                self._by_thread[thread].append(entry)
            else:
                self._by_thread[thread] = deque([entry])

    def finish_oldest(self, finish: Callable[[Item], object]) -> bool:
        """Call ``finish`` with this thread's oldest item or, if it has none, with the process's oldest.

        If an interrupt comes after that call and before the item is removed, the item stays here: ``finish``
        must accept the same item again.

        Returns:
            Whether there was an item.
        """
        with self._lock:
            if not self._by_thread:
                return False
            thread = threading.get_ident()
            if thread not in self._by_thread:
                thread = min(self._by_thread, key=lambda it: self._by_thread[it][0][0])
            self._finish(thread, finish)
            return True

    def finish_own(self, finish: Callable[[Item], object]) -> bool:
        """Call ``finish`` with this thread's oldest item, as :meth:`finish_oldest` does.

        Returns:
            Whether this thread had an item.
        """
        with self._lock:
            thread = threading.get_ident()
            if thread not in self._by_thread:
                return False
            self._finish(thread, finish)
            return True

    def remove(self, item: Item) -> None:
        """Remove this thread's newest item if it is ``item``."""
        with self._lock:
            thread = threading.get_ident()
            mine = self._by_thread.get(thread)
            if mine and mine[-1][1] is item:
                if len(mine) > 1:
                    mine.pop()
                else:
                    del self._by_thread[thread]

    def _finish(self, thread: int, finish: Callable[[Item], object]) -> None:
        items = self._by_thread[thread]
        finish(items[0][1])
        if len(items) > 1:
            items.popleft()
        else:
            del self._by_thread[thread]
