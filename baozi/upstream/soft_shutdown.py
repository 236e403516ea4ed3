"""Soft shutdown: the worker ends as soon as its pool has no message, or at the deadline.

Celery's own soft shutdown sleeps for its whole time, even if the pool is empty, and acknowledges nothing
meanwhile (Celery user guide "Workers", Soft shutdown). So this step handles the signals that start it.

Upstream: celery/celery#9505, and celery/celery#9213, which introduced it.
Checked with: celery 5.7.0.
"""

import signal
import time
from collections.abc import Callable
from typing import Any

import celery.apps.worker
from celery.bootsteps import StartStopStep
from celery.platforms import EX_OK
from celery.utils.log import get_logger
from celery.worker import state

from baozi.settings import settings

logger = get_logger(__name__)

#: Seconds between two checks for a signal, and then between two checks whether the pool is empty.
_SIGNAL_POLL_EVERY, _DRAIN_POLL_EVERY = 1, 0.1

#: Whether Celery handles SIGTERM like SIGQUIT. Only Celery reads the variable REMAP_SIGTERM.
_REMAPPED = vars(celery.apps.worker)["REMAP_SIGTERM"] == "SIGQUIT"

Handler = Callable[[int, Any], Any]


class SoftShutdown(StartStopStep):
    """The worker's step that ends it: first softly; at a second signal or the deadline, as Celery does."""

    _draining = False
    _cold_shutdown: Handler

    def __init__(self, parent: Any, **options: Any) -> None:
        """Start without a deadline."""
        super().__init__(parent, **options)
        self._deadline: float | None = None

    def start(self, worker: Any) -> None:
        """Replace Celery's handler of SIGQUIT, and that of SIGTERM if it has the same meaning."""
        for number in (signal.SIGQUIT, *([signal.SIGTERM] if _REMAPPED else [])):
            self._take_over(worker, number)

    def _take_over(self, worker: Any, number: signal.Signals) -> None:
        cold_shutdown: Any = signal.getsignal(number)

        def handle(signum: int, frame: Any) -> None:
            signal.signal(number, cold_shutdown)
            if worker.consumer is None or worker.consumer.connection is None or worker.consumer.hub is None:
                cold_shutdown(signum, frame)  # no loop runs that would check the deadline
                return
            # The event loop does the rest, because a signal may interrupt it anywhere.
            self._cold_shutdown = cold_shutdown
            self._deadline = time.monotonic() + settings().soft_shutdown_timeout

        if callable(cold_shutdown):
            signal.signal(number, handle)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Let the loop of a new connection check for the signal."""
        self._draining = False
        hub.timer.call_repeatedly(_SIGNAL_POLL_EVERY, self._check, (worker, hub))

    def _check(self, worker: Any, hub: Any) -> None:
        if self._deadline is None or state.should_terminate:
            return
        if not self._draining:
            self._draining = True
            logger.warning("Stopping: what is in hand has %g s.", settings().soft_shutdown_timeout)
            worker.consumer.drain()
            hub.timer.call_repeatedly(_DRAIN_POLL_EVERY, self._check, (worker, hub))
        if not worker.consumer.is_busy:
            state.should_stop = EX_OK  # type: ignore[assignment]  # the stubs say it is never set
        elif time.monotonic() >= self._deadline:
            self._deadline = None
            logger.warning("Not done in time: what is in hand is given back.")
            worker.consumer.kill_batches()
            self._cold_shutdown(signal.SIGQUIT, None)
