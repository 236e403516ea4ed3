"""Row 3, ``queue-basics``: a Queue and its methods.

The course: a Queue gives back what was put, in the order in which it was put; ``full()`` and ``empty()``
say how it stands; a ``put`` to a full Queue and a ``get`` from an empty one block.

It shows a Queue of three: three items of any kind that can be pickled, and that the fourth ``put`` and the
fourth ``get`` block. Both would block for ever, so each is given a time after which it gives up.

It cannot hold much: all of it is in memory, and without a bound it grows until there is none left.
``full()`` and ``empty()`` were true when they were asked; where others put and get, they may be wrong by
the time you look.
"""

import multiprocessing
import queue
import time
from multiprocessing.queues import Queue
from typing import Any

ITEMS: tuple[Any, ...] = ("hello", [1, 2, 3, 4], {"name": "alex", "age": 15})

#: Seconds after which a put or a get that blocks gives up.
PATIENCE = 1.0


def main(pace: float) -> None:
    """Put, get, and show what blocks.

    Args:
        pace: the factor on the seconds for which the two that block are waited for.
    """
    q: Queue[Any] = multiprocessing.Queue(3)
    for item in ITEMS:
        q.put(item)
    print(q.full())

    began = time.monotonic()
    try:
        q.put("one too many", timeout=PATIENCE * pace)
    except queue.Full:
        print(f"a fourth put blocked for {time.monotonic() - began:.1f} s")

    for _ in ITEMS:
        print(q.get())
    print(q.empty())

    began = time.monotonic()
    try:
        q.get(timeout=PATIENCE * pace)
    except queue.Empty:
        print(f"a get on an empty queue blocked for {time.monotonic() - began:.1f} s")

    q.close()
    q.join_thread()
