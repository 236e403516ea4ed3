"""Small tasks that ``baozi prove`` adds to the user's app: for a run without a task, and for a retry."""

import time
from typing import Any

#: A task that works for some time; one that first asks for a retry.
WORK, RETRIED = "baozi.prove.work", "baozi.prove.retried"
#: Seconds until the retry.
RETRY_AFTER = 3


def add_to(app: Any) -> None:
    """Register the tasks in ``app``. They have its own settings and its own base class."""
    if WORK in app.tasks:
        return

    def work(seconds: float) -> None:
        time.sleep(seconds)

    def retried(self: Any, seconds: float) -> None:
        if not self.request.retries:
            raise self.retry(countdown=RETRY_AFTER)
        time.sleep(seconds)

    app.task(name=WORK, shared=False)(work)
    app.task(name=RETRIED, shared=False, bind=True)(retried)
