"""What a fault waits for: a task that a worker executes now, as the worker itself reports it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery

#: Seconds in which each known worker must answer; in which unknown workers may answer; after which unknown
#: workers are looked for again.
_ANSWER, _ANY_ANSWER, _LOOK_AGAIN = 2, 1, 5


@dataclass(frozen=True)
class RunningTask:
    """One execution of a task."""

    name: str
    id: str
    worker: str
    """The worker's name, such as ``celery@host``."""
    process: int
    """The number of the process that executes it, on the worker's machine or in its container."""


@dataclass(frozen=True)
class Condition:
    """A condition that an execution meets or does not."""

    what: str
    """What is awaited, for an error."""
    holds: Callable[[RunningTask], bool]


def running(name: str) -> Condition:
    """Return the condition that a task with this name is being executed."""
    return Condition(f"{name} to run", lambda task: task.name == name)


class ActiveTasks:
    """Asks an app's workers, by Celery's remote control, what they execute."""

    def __init__(self, app: Celery) -> None:
        """Ask the workers of ``app``."""
        self._app: Any = app
        self._broken = app.connection_for_write().recoverable_connection_errors
        self.workers: tuple[str, ...] = ()
        """The workers that have answered."""
        self._look_again = 0.0

    def look(self) -> tuple[str, ...]:
        """Return the names of the workers that answer a ping."""
        self.workers = tuple(self._ask("ping", timeout=_ANY_ANSWER))
        self._look_again = time.monotonic() + _LOOK_AGAIN
        return self.workers

    def now(self) -> list[RunningTask]:
        """Return what the workers execute now."""
        if not self.workers or time.monotonic() > self._look_again:
            self.look()
        if not self.workers:
            return []
        # With their names, Celery returns as soon as all have answered.
        answers = self._ask("active", destination=self.workers, timeout=_ANSWER)
        if len(answers) < len(self.workers):  # one has ended
            self._look_again = 0.0
        return [
            RunningTask(it["name"], it["id"], worker, int(it["worker_pid"] or 0))
            for worker, tasks in answers.items()
            for it in tasks
        ]

    def _ask(self, question: str, **options: Any) -> dict[str, Any]:
        try:
            return getattr(self._app.control.inspect(**options), question)() or {}
        except self._broken:  # a connection of the pool, which an earlier fault has cut
            return {}
