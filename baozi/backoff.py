"""Every backoff of the project: how long to pause before something that failed is tried again.

All times are in seconds, and attempts count from 1.
"""

import random
from collections.abc import Callable
from math import inf, ldexp

from tenacity import RetryCallState, wait_fixed


def exponential_backoff(attempt: int, first: float, longest: float) -> float:
    """Return the pause after ``attempt`` failed: ``first``, doubled for each attempt, at most ``longest``.

    It has no jitter.
    """
    try:
        pause = ldexp(first, attempt - 1)
    except OverflowError:
        pause = inf
    return min(pause, longest)


def exponential_wait(first: float, longest: float) -> Callable[[RetryCallState], float]:
    """Return tenacity's wait: pauses double from ``first`` to ``longest``; up to ``first`` is jitter.

    Tenacity's own ``wait_exponential_jitter`` adds up to a whole second, whatever the first pause is.
    """

    def wait(state: RetryCallState) -> float:
        pause = exponential_backoff(state.attempt_number, first, longest)
        return min(pause + random.uniform(0, first), longest)

    return wait


def jittered_backoff(attempt: int, first: float, longest: float) -> float:
    """Return the pause after ``attempt`` failed, half of which is jitter.

    It is at least what :func:`exponential_backoff` returns, and at most twice that. So many messages that
    failed at the same time are delivered again at different times, further apart with each attempt.
    """
    most = exponential_backoff(attempt + 1, first, longest)
    return random.uniform(max(first, most / 2), most)


def random_pause(shortest: float, longest: float) -> float:
    """Return a random pause, so that two clients that conflicted are unlikely to conflict again."""
    return random.uniform(shortest, longest)


def fixed_wait(pause: float) -> Callable[[RetryCallState], float]:
    """Return tenacity's wait of ``pause`` seconds each time."""
    return wait_fixed(pause)
