"""What the worker's main process does when one message is done or has failed.

Celery acknowledges a message that was revoked or has expired. It ends the worker at a MemoryError of a task.
It announces that a task was terminated before the process has ended, and then ignores its result.

Upstream: celery/celery#2142 says that a terminated process may have another task by then. No thread about the
other two is known.
Checked with: celery 5.7.0, billiard 4.3.2.
"""

import time
from functools import cached_property
from signal import SIGKILL, SIGQUIT, SIGTERM
from typing import Any

from celery.app.task import Context
from celery.exceptions import Reject
from celery.platforms import signals
from celery.worker import state
from celery.worker.request import Request as CeleryRequest

from baozi.dead_letters.failure import reason_and_traceback
from baozi.worker.checking import EXPIRED, REVOKED


class Request(CeleryRequest):
    """Celery's request, but a rejected, revoked or expired message is dead-lettered with its reason.

    With Celery's reject the reason would only be "rejected". Celery acknowledges a revoked or expired
    message, which then leaves no trace.
    """

    _reason = "rejected"
    _traceback: str | None = None
    _failed = False

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Keep reason and traceback for :meth:`reject`, and do what Celery does."""
        self._failed = True
        error: Any = exc_info.exception
        # billiard wraps the child's exception, to add its traceback. Reject wraps its reason.
        error = getattr(error, "exc", error)
        error = error.args[0] if isinstance(error, Reject) else error
        self._reason, self._traceback = reason_and_traceback(exc_info, error)
        if isinstance(error, MemoryError):
            # Celery would end the whole worker, and the next one that gets this message. There may be more
            # memory another time, so it is requeued, as if the child had been killed.
            exc_info.exception = Reject(error, requeue=True)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def acknowledge(self) -> None:
        """Acknowledge the message, and note how long its execution took."""
        if not (self._failed or self.acknowledged or self.time_start is None):
            self.message.executed_alone(time.time() - self.time_start)
        super().acknowledge()

    @cached_property
    def _context(self) -> Context:
        """The context for Celery's backend, without callbacks.

        The backend would send the callbacks in the event loop, which must not wait for the broker.
        """
        return Context(self.request_dict)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Kill the pool process. The message's outcome is known when the process has ended."""
        if self.time_start is None:
            super().terminate(pool, signal)
            return
        # If REMAP_SIGTERM is set, pool processes ignore SIGTERM and SIGQUIT.
        number = signals.signum(signal or SIGKILL)
        number = SIGKILL if number in (SIGTERM, SIGQUIT) else number
        pool.terminate_job(self.worker_pid, number)
        reference: Any = getattr(self, "_apply_result", None)
        result = reference and reference()
        if result is not None:
            result.terminate(number)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        if not self.acknowledged:
            self._reason, self._traceback = EXPIRED if expired else REVOKED, None
            self._dead_letter()
        celerys: Any = super()  # the stubs leave the method out
        celerys._announce_revoked(reason, terminated, signum, expired)

    def fail(self, error: Exception) -> None:
        """Dead-letter a message that could not be given to a pool process."""
        state.task_ready(self)
        if not self.acknowledged:
            self._reason = f"{type(error).__name__}: {error}"
            self._dead_letter()

    def reject(self, requeue: bool = False) -> None:
        """Requeue the message (``requeue``), or dead-letter it."""
        if requeue or self.acknowledged:
            super().reject(requeue=requeue)
            return
        self._dead_letter()

    def _dead_letter(self) -> None:
        # A request has no reference to its consumer. So the consumer adds its method to the message.
        self.acknowledged = True
        self.message.dead_letter(self._reason, self._traceback)
