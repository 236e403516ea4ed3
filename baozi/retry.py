"""A task's policy: after which errors its message is delivered again, how often, and how much later."""

from dataclasses import dataclass
from math import isfinite

from celery.exceptions import TaskPredicate

from baozi.backoff import jittered_backoff
from baozi.errors import DeadLetter, UsageError
from baozi.worker.checking import LONGEST_DELAY

#: Each of these already decides about the message: to the dead letters, or Celery's Ignore, Reject, Retry.
_DECIDED = (DeadLetter, TaskPredicate)


@dataclass(frozen=True)
class Retry:
    """When to run a failed task again.

    The pause before a retry doubles from ``first`` to ``longest``. A random half of it is jitter. The broker
    keeps the message meanwhile, so that no worker waits. The pause is rounded up to whole seconds.

    Raises:
        UsageError: a value is wrong. A program that is started from the command line ends with this one
            sentence and exit code 2, and no worker starts with a policy that fails at its first use.
    """

    on: tuple[type[Exception], ...]
    """Errors that are worth another attempt, with their subclasses. Every other error is final."""
    attempts: int = 5
    """Runs in all, the first included; after the last one the message goes to the dead letters."""
    first: float = 1.0
    """Seconds of the shortest pause, before the second attempt."""
    longest: float = 300.0
    """Seconds of the longest pause."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.on, tuple) or not self.on or not all(map(_is_error, self.on)):
            raise UsageError(f"Retry: on must be a tuple of exception classes, and is {_shown(self.on)}.")
        for error in self.on:
            if issubclass(error, _DECIDED):
                raise UsageError(f"Retry: on must not contain {error.__name__}, which is never retried.")
        if not _is_number(self.attempts, int) or self.attempts < 1:
            raise UsageError(
                f"Retry: attempts must be a whole number from 1, and is {_shown(self.attempts)}."
            )
        for name, seconds in (("first", self.first), ("longest", self.longest)):
            if not _is_number(seconds, int, float) or not 0 < seconds <= LONGEST_DELAY:
                raise UsageError(
                    f"Retry: {name} must be more than 0 and at most {LONGEST_DELAY} seconds,"
                    f" and is {_shown(seconds)}."
                )
        if self.longest < self.first:
            raise UsageError(
                f"Retry: longest ({self.longest} s) must not be less than first ({self.first} s)."
            )

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait after ``attempt`` (from 1) failed; another number at each call.

        Raises:
            ValueError: ``attempt`` is less than 1.
        """
        if attempt < 1:
            raise ValueError(f"attempts count from 1, and this is {attempt}")
        return jittered_backoff(attempt, self.first, self.longest)

    def again(self, error: BaseException, attempts_made: int) -> float | None:
        """Return the seconds after which to retry; None if ``error`` is final or no attempt is left.

        Args:
            error: what the task raised.
            attempts_made: how often the task has run for this message, this time included (from 1).
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
    """Return what ``value`` is, in at most 80 characters; its own text may fail or be very long."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:79]}…"
