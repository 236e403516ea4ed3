"""A lock, and word that something has changed, for threads that an interrupt may reach at any moment.

``threading.Condition`` is written in Python: an interrupt between two of its steps leaves its lock locked for
ever, or has ``with`` raise RuntimeError. Each step here is one of the interpreter's own.
"""

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress


class Changed(_thread.RLock):  # type: ignore[misc]  # it can be inherited from, whatever typeshed says
    """Hold it to change what others look at, and call :meth:`notify_all`."""

    def __init__(self) -> None:
        """Begin without a waiting thread."""
        self._bells: set[_thread.LockType] = set()

    def notify_all(self) -> None:
        """Wake all waiting threads: each looks again."""
        for bell in tuple(self._bells):
            with suppress(RuntimeError):  # it was rung already
                bell.release()

    def wait(self, look: Callable[[], float | None]) -> None:
        """Return when ``look`` returns None.

        Args:
            look: called with the lock held, at first, after each :meth:`notify_all`, and after the seconds
                that it has returned. The lock must not be held already.
        """
        bell = _thread.allocate_lock()
        bell.acquire()
        try:
            self._bells.add(bell)
            while True:
                with self:
                    seconds = look()
                if seconds is None:
                    return
                bell.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        finally:
            self._bells.discard(bell)


def start(thread: threading.Thread) -> None:
    """Start ``thread``; an interrupt meanwhile is raised as itself.

    :meth:`threading.Thread.start` waits with a :class:`threading.Condition`. If that is interrupted at the
    wrong moment, it raises RuntimeError, with the interrupt as its context.

    Raises:
        RuntimeError: the system has no room for another thread.
    """
    try:
        thread.start()
    except RuntimeError as error:
        if error.__context__ is not None:
            raise error.__context__ from None
        raise
