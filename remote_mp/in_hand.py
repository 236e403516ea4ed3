"""What a process has got and not finished, by the thread that has got it."""

import threading
from collections import deque
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
            mine = self._by_thread.setdefault(threading.get_ident(), deque())
            mine.append((next(self._numbers), item))

    def take(self) -> Item | None:
        """Return the oldest of this thread or, when it has none, of the process; None when there is none."""
        with self._lock:
            thread = threading.get_ident()
            if thread not in self._by_thread:
                if not self._by_thread:
                    return None
                thread = min(self._by_thread, key=lambda it: self._by_thread[it][0][0])
            return self._pop(thread)

    def take_own(self) -> Item | None:
        """Return the oldest of this thread, or None."""
        with self._lock:
            thread = threading.get_ident()
            return self._pop(thread) if thread in self._by_thread else None

    def remove(self, item: Item) -> bool:
        """Forget this thread's newest if it is ``item``; return whether it was."""
        with self._lock:
            thread = threading.get_ident()
            mine = self._by_thread.get(thread)
            if not mine or mine[-1][1] is not item:
                if mine is not None and not mine:
                    del self._by_thread[thread]
                return False
            mine.pop()
            if not mine:
                del self._by_thread[thread]
            return True

    def _pop(self, thread: int) -> Item:
        items = self._by_thread[thread]
        _, item = items.popleft()
        if not items:
            del self._by_thread[thread]
        return item
