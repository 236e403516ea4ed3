"""What the worker's main process does with one message's outcome."""

from typing import Any

from celery.exceptions import Reject
from celery.worker.request import Request as CeleryRequest

from tasks.failure import told


class Request(CeleryRequest):
    """Celery's request, but what is rejected for good is buried with its reason.

    A bare reject would also reach the dead letters, with no more said than "rejected".
    """

    _reason = "rejected"
    _traceback: str | None = None

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Keep reason and traceback for :meth:`reject`, and go on as Celery does."""
        error: Any = exc_info.exception
        # billiard wraps what a child raised, to carry its traceback along; Reject wraps its reason.
        error = getattr(error, "exc", error)
        error = error.args[0] if isinstance(error, Reject) else error
        self._reason, self._traceback = told(exc_info, error)
        if isinstance(error, MemoryError):
            # Celery would end the whole worker, and then the next one that gets this message. Memory may be
            # there another time: as if the child had been killed for it.
            exc_info.exception = Reject(error, requeue=True)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def reject(self, requeue: bool = False) -> None:
        """Give the message back to the broker (``requeue``), or bury it."""
        if requeue or self.acknowledged:
            super().reject(requeue=requeue)
            return
        # A request knows its message but not its consumer, which therefore left word there.
        self.acknowledged = True
        self.message.bury(self._reason, self._traceback)
