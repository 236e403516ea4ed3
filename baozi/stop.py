"""Stops work on SIGINT or SIGTERM: an event that a signal handler can set, and the signal handlers."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any, NoReturn

from baozi.language import translated

#: The signals that end a program.
ENDING = (signal.SIGINT, signal.SIGTERM)


def write_to_stderr(text: str) -> None:
    """Write ``text`` from a signal handler, which may have interrupted a print. An error is ignored."""
    with suppress(OSError):
        os.write(2, text.encode(getattr(sys.stderr, "encoding", None) or "utf-8", "replace"))


class Stop(Event):
    """An event that a signal handler can set and one thread waits for. It is never cleared.

    ``threading.Event`` can deadlock here: ``wait`` briefly holds a lock that ``set`` needs, and Python runs a
    signal handler in the main thread between any two of its steps. ``SimpleQueue.put`` is reentrant (Python
    library reference, "queue").
    """

    def __init__(self) -> None:
        """Create the event. It is not set."""
        super().__init__()
        self._is_set = False
        self._woken = SimpleQueue[None]()

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Set the event and wake the thread that waits."""
        self._is_set = True
        self._woken.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, for at most ``timeout`` seconds. Return whether it is set."""
        if not self._is_set:
            with suppress(Empty):
                self._woken.get(timeout=timeout)
        return self._is_set


class StopTimeout(KeyboardInterrupt):
    """Raised in the main thread when the timeout after a stop is over, like a second Ctrl-C."""


def stop_on_signals(
    timeout: float | None = None,
    waits_for: str = "",
    numbers: Iterable[signal.Signals] = ENDING,
) -> Stop:
    """Return an event that the first Ctrl-C or SIGTERM sets. A second signal raises KeyboardInterrupt.

    Args:
        timeout: seconds from the first signal until :class:`StopTimeout` is raised in the main thread,
            unless :func:`cancel_stop_timeout` is called first. None means no timeout.
        waits_for: what the program does in that time. It is printed on stderr at the first signal.
        numbers: the signals.
    """
    stop = Stop()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        if timeout is None:
            return
        signal.setitimer(signal.ITIMER_REAL, timeout)
        sentence = translated(
            "Stopping: {waits_for}, for {timeout:g} s at most. A second signal ends at once.",
            waits_for=waits_for,
            timeout=timeout,
        )
        write_to_stderr(f"{sentence}\n")

    def on_alarm(_number: int, _frame: object) -> None:
        raise StopTimeout

    signal.signal(signal.SIGALRM, on_alarm)
    for number in numbers:
        signal.signal(number, on_signal)
    return stop


def cancel_stop_timeout() -> None:
    """Cancel the timeout of :func:`stop_on_signals`. Call this when the work has ended."""
    signal.setitimer(signal.ITIMER_REAL, 0)


#: Python's own handlers of these signals.
_HANDLERS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextmanager
def stopped_by_signals(timeout: float, waits_for: str) -> Iterator[Stop]:
    """Yield an event that SIGINT and SIGTERM set in this block. Restore the handlers at its end.

    A signal that the program handles or ignores keeps its handler: a shell, for example, starts background
    processes with SIGINT ignored. Outside the main thread, and in a program that handles SIGALRM, no handler
    is changed.

    Args:
        timeout: as for :func:`stop_on_signals`.
        waits_for: as for :func:`stop_on_signals`.
    """
    numbers = [number for number, handler in _HANDLERS.items() if signal.getsignal(number) == handler]
    has_alarm = signal.getsignal(signal.SIGALRM) != signal.SIG_DFL
    if not numbers or has_alarm or threading.current_thread() is not threading.main_thread():
        yield Stop()
        return
    stop = stop_on_signals(timeout, waits_for, numbers)
    try:
        yield stop
    finally:
        cancel_stop_timeout()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number in numbers:
            signal.signal(number, _HANDLERS[number])


class Interruptions:
    """Counts the signals that a command has received."""

    def __init__(self) -> None:
        """Set the count to 0."""
        self.count = 0

    @property
    def at_once(self) -> bool:
        """Whether a second signal came. Then the command must not wait any longer."""
        return self.count > 1


@contextmanager
def report_wait_on_signals(waits_for: Callable[[], str]) -> Iterator[Interruptions]:
    """In this block, SIGINT and SIGTERM print what the command waits for and raise KeyboardInterrupt.

    Args:
        waits_for: returns what the command waits for at this moment, or an empty string.
    """
    told = Interruptions()

    def on_signal(_number: int, _frame: object) -> NoReturn:
        told.count += 1
        if told.count == 1:
            awaited = waits_for()
            what = translated("Waiting for {awaited}. Press Ctrl-C again to end at once.", awaited=awaited)
            write_to_stderr(f"\n{translated('Stopping …')} {what if awaited else ''}".rstrip() + "\n")
        raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in ENDING}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
