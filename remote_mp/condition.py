"""A condition variable that stays usable when an interrupt, such as Ctrl-C, comes at any moment.

``threading.Condition`` is written in Python. An interrupt between two of its steps leaves its lock locked for
ever, or makes ``with`` raise RuntimeError. Here, each step that changes a lock is one step of Python.
"""

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress


class InterruptSafeCondition(_thread.RLock):  # type: ignore[misc]  # it can be inherited from, despite typeshed
    """A lock. Hold it to change what other threads wait for, and then call :meth:`notify_all`."""

    def __init__(self) -> None:
        """Make the condition, with no waiting thread."""
        self._sleepers: set[_thread.LockType] = set()
        """One lock for each waiting thread, which waits until it is released."""

    def notify_all(self) -> None:
        """Wake all waiting threads. Each of them checks again."""
        for sleeper in tuple(self._sleepers):
            with suppress(RuntimeError):  # it is released already
                sleeper.release()

    def wait_until(self, check: Callable[[], float | None]) -> None:
        """Return when ``check`` returns None.

        Args:
            check: called with the lock held: at once, after each :meth:`notify_all`, and after as many
                seconds as it has returned. The caller must not hold the lock.
        """
        sleeper = _thread.allocate_lock()
        sleeper.acquire()
        try:
            self._sleepers.add(sleeper)
            while True:
                with self:
                    seconds = check()
                if seconds is None:
                    return
                sleeper.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        finally:
            self._sleepers.discard(sleeper)


def start_thread(thread: threading.Thread) -> None:
    """Start ``thread``. If an interrupt comes meanwhile, raise that interrupt.

    :meth:`threading.Thread.start` waits with a :class:`threading.Condition`. If an interrupt comes at the
    wrong moment, it raises RuntimeError, with the interrupt as its context.

    Raises:
        RuntimeError: the thread was started before, or the system cannot start another.
    """
    try:
        thread.start()
    except RuntimeError as error:
        if error.__context__ is not None:
            raise error.__context__ from None
        raise
