"""The retry policy of a task: after which errors it is executed again, how often, and after which pause."""

from dataclasses import dataclass
from math import isfinite

from celery.exceptions import TaskPredicate

from baozi.backoff import jittered_backoff
from baozi.errors import DeadLetter, UsageError
from baozi.worker.checking import LONGEST_DELAY

#: Exceptions that already decide what happens to the message: DeadLetter, and Celery's Ignore, Reject, Retry.
_DECIDED = (DeadLetter, TaskPredicate)


@dataclass(frozen=True)
class Retry:
    """Says after which errors a task is executed again, how often, and after which pause.

    The pause doubles with each attempt, from ``first`` to ``longest`` seconds. A random half of it is jitter.
    It is rounded up to whole seconds. The broker keeps the message during the pause, so no worker waits.

    Raises:
        UsageError: a value is invalid. It is raised when the app is imported, so that no worker starts with
            such a policy.
    """

    on: tuple[type[Exception], ...]
    """The exceptions, with their subclasses, after which the task is executed again. All others are final."""
    attempts: int = 5
    """How often the task is executed in total. After the last attempt the message is dead-lettered."""
    first: float = 1.0
    """Seconds: the shortest pause, before the second attempt."""
    longest: float = 300.0
    """Seconds: the longest pause."""

    def __post_init__(self) -> None:
        """Check the values. Raises UsageError if one is invalid."""
        if not isinstance(self.on, tuple) or not self.on or not all(map(_is_error, self.on)):
            raise UsageError(
                "Retry: on must be a tuple of exception classes, but is {on}.", on=_shown(self.on)
            )
        for error in self.on:
            if issubclass(error, _DECIDED):
                raise UsageError(
                    "Retry: on must not contain {type}, which is never retried.", type=error.__name__
                )
        if not _is_number(self.attempts, int) or self.attempts < 1:
            raise UsageError(
                "Retry: attempts must be a whole number from 1, but is {attempts}.",
                attempts=_shown(self.attempts),
            )
        for name, seconds in (("first", self.first), ("longest", self.longest)):
            if not _is_number(seconds, int, float) or not 0 < seconds <= LONGEST_DELAY:
                raise UsageError(
                    "Retry: {name} must be more than 0 and at most {longest} seconds, but is {seconds}.",
                    name=name,
                    longest=LONGEST_DELAY,
                    seconds=_shown(seconds),
                )
        if self.longest < self.first:
            raise UsageError(
                "Retry: longest ({longest} s) must not be less than first ({first} s).",
                longest=self.longest,
                first=self.first,
            )

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt. The jitter is different at each call.

        Args:
            attempt: the number of the attempt that failed, from 1.

        Raises:
            ValueError: ``attempt`` is less than 1.
        """
        if attempt < 1:
            raise ValueError(f"attempts count from 1, and this is {attempt}")
        return jittered_backoff(attempt, self.first, self.longest)

    def again(self, error: BaseException, attempts_made: int) -> float | None:
        """Return the seconds to wait before the next attempt, or None if there must be none.

        Args:
            error: the exception that the task raised.
            attempts_made: how often the task has been executed for this message, including this time.
        """
        if isinstance(error, _DECIDED) or not isinstance(error, self.on) or attempts_made >= self.attempts:
            return None
        return self.pause(attempts_made)


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and _is_finite(value)


def _is_finite(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and isfinite(value))


def _shown(value: object) -> str:
    """Return the ``repr`` of ``value``, or its type if that raises, in at most 80 characters."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:79]}…"
