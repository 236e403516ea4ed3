"""multiprocessing's queues and ours, to be held to the same."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

#: Long enough to see that something waits.
A_WHILE = 0.3
spawn = multiprocessing.get_context("spawn")
_names = count()


@dataclass(frozen=True)
class Kind:
    """Theirs, or ours on one broker."""

    queue: Callable[..., Any]
    joinable: Callable[..., Any]
    is_ours: bool


def later(do: Callable[[], object]) -> threading.Thread:
    """Do it in a while."""
    thread = threading.Timer(A_WHILE, do)
    thread.start()
    return thread


def seconds(do: Callable[[], object], expected: type[Exception]) -> float:
    """How long it took to raise what is expected."""
    began = time.monotonic()
    with pytest.raises(expected):
        do()
    return time.monotonic() - began


def put_and_end(q: Any, items: list[object]) -> None:
    for item in items:
        q.put(item)
