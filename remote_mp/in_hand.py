"""What a process has got and not finished, by the thread that has got it."""

import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class InHand(Generic[Item]):
    """Items in the order in which they were got.

    ``task_done`` does not say which item it means. A thread that gets and finishes means its own; one that
    finishes what another has handed to it can only mean the oldest of all.
    """

    def __init__(self) -> None:
        """Begin with empty hands."""
        self._lock = threading.Lock()
        self._numbers = count()
        self._by_thread: dict[int, deque[tuple[int, Item]]] = {}

    def add(self, item: Item) -> None:
        """Take note that this thread has got ``item``."""
        with self._lock:
            thread = threading.get_ident()
            entry = next(self._numbers), item
            # Each of the two is one step, within which no interrupt comes: no deque is ever empty.
            if thread in self._by_thread:
                self._by_thread[thread].append(entry)
            else:
                self._by_thread[thread] = deque([entry])

    def finish_oldest(self, finish: Callable[[Item], object]) -> bool:
        """Call ``finish`` with the oldest of this thread or, when it has none, of the process.

        An interrupt that comes after that, and before the item is forgotten, leaves it here: ``finish`` must
        be able to take the same item again.

        Returns:
            Whether there was one.
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
        """Do the same with the oldest of this thread only."""
        with self._lock:
            thread = threading.get_ident()
            if thread not in self._by_thread:
                return False
            self._finish(thread, finish)
            return True

    def remove(self, item: Item) -> None:
        """Forget this thread's newest if it is ``item``."""
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
