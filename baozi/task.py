"""A task whose messages are guarded: sent mandatory, dead-lettered with the reason when it fails for good."""

import sys
import time
from typing import Any

from celery import Task
from celery.exceptions import Reject
from celery.utils.log import get_task_logger

from baozi.dead_letters import failure
from baozi.worker.batches import Together
from baozi.worker.checking import Refused, check_again

logger = get_task_logger(__name__)


class ReliableTask(Task):  # type: ignore[type-arg]  # celery.Task is generic in its stubs only
    """A task whose messages are mandatory, and whose final failures are buried with their reason.

    How long it may take is the worker's to say.
    """

    Request = "baozi.upstream.request:Request"

    def done_together_by(self) -> Together | None:
        """Return what does several messages of this task at once, if something does."""
        return None

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send as Celery does; a message that no queue takes is an error, not silence."""
        options.setdefault("mandatory", True)
        # Celery would send the time limits of the sender's settings along, and a worker obey them.
        options.setdefault("time_limit", None)
        options.setdefault("soft_time_limit", None)
        return super().apply_async(*args, **options)

    def before_start(self, *_: Any) -> None:
        """Keep what is to follow from Celery, which would take a failure there for the task's own.

        Raises:
            Reject: the task has expired or was revoked while it waited; it is dead-lettered.
        """
        request: Any = self.request
        try:
            check_again(request, time.time())
        except Refused as refused:
            raise Reject(refused, requeue=False) from None
        chain = request.chain or []
        rest = [(chain[-1], chain[:-1])] if chain else []
        request.followers = [(callback, None) for callback in request.callbacks or []] + rest
        request.callbacks = request.chain = None

    def on_success(self, retval: Any, task_id: str, *_: Any) -> None:
        """Send what is to follow. The task is done and stays so, whatever fails here."""
        request: Any = self.request
        for follower, chain in request.followers:
            try:
                signature: Any = self.app.signature(follower)
                options = {"chain": chain} if chain else {}
                signature.apply_async(
                    (retval,), parent_id=task_id, root_id=request.root_id or task_id, **options
                )
            except Exception:
                logger.exception("What follows task %s could not be sent.", task_id)

    def on_failure(self, exc: Exception, _id: str, _args: Any, _kwargs: Any, einfo: Any) -> None:
        """Leave word of the exception for :class:`baozi.upstream.request.Request`.

        ``exc`` may be another one by now: Celery puts a plain ``OSError`` in the place of an ``HTTPError``,
        which it cannot pickle. The one that was raised is still being handled.
        """
        failure.tell(einfo, sys.exception() or exc)
