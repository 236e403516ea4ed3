"""Waiting for a condition, with a deadline and a word on what was awaited."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")

_LOOK_EVERY = 0.05


def wait_until(seen: Callable[[], Seen], what: str, timeout: float = 30) -> Seen:
    """Return what ``seen`` returns as soon as it is true; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := seen()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain for {what}"
        time.sleep(_LOOK_EVERY)
    return result
