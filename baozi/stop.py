"""An event that a signal handler sets to stop the work."""

from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event


class Stop(Event):
    """An event that a signal's handler may set, and one thread waits for. It is never cleared.

    ``Event.wait`` holds, for moments, a lock that ``Event.set`` takes, and a handler runs between any two
    steps of the main thread: set by one that comes at such a moment, an event of ``threading`` waits for ever
    for the thread it runs in. ``SimpleQueue.put`` is made for such callers (Python's library reference).
    """

    def __init__(self) -> None:
        """Begin unset."""
        super().__init__()
        self._is_set = False
        self._woken = SimpleQueue[None]()

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake who waits."""
        self._is_set = True
        self._woken.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, ``timeout`` seconds at the most; return whether it is."""
        if not self._is_set:
            with suppress(Empty):
                self._woken.get(timeout=timeout)
        return self._is_set
