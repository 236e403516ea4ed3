"""Computes how long to wait before a failed action is tried again (backoff).

All times are in seconds. Attempts are counted from 1.
"""

import random
from collections.abc import Callable
from math import inf, ldexp

from tenacity import RetryCallState, wait_fixed


def exponential_backoff(attempt: int, first: float, longest: float) -> float:
    """Return the pause after ``attempt`` failed, without jitter.

    It is ``first`` after the first attempt, doubles with each further attempt, and is at most ``longest``.
    """
    try:
        pause = ldexp(first, attempt - 1)
    except OverflowError:
        pause = inf
    return min(pause, longest)


def exponential_wait(first: float, longest: float) -> Callable[[RetryCallState], float]:
    """Return a wait function for tenacity: pauses double from ``first`` to ``longest``.

    Up to ``first`` seconds of jitter are added. Tenacity's ``wait_exponential_jitter`` is not used because
    its default jitter is up to 1 s, also for shorter pauses.
    """

    def wait(state: RetryCallState) -> float:
        pause = exponential_backoff(state.attempt_number, first, longest)
        return min(pause + random.uniform(0, first), longest)

    return wait


def jittered_backoff(attempt: int, first: float, longest: float) -> float:
    """Return the pause after ``attempt`` failed, with jitter.

    It is between one and two times the result of :func:`exponential_backoff`, and at most ``longest``. So
    messages that failed at the same time are delivered again at different times.
    """
    most = exponential_backoff(attempt + 1, first, longest)
    return random.uniform(max(first, most / 2), most)


def random_pause(shortest: float, longest: float) -> float:
    """Return a random pause in this range, so that two clients in a conflict do not try again together."""
    return random.uniform(shortest, longest)


def fixed_wait(pause: float) -> Callable[[RetryCallState], float]:
    """Return a wait function for tenacity that always waits ``pause`` seconds."""
    return wait_fixed(pause)
