"""第三行 ``queue-basics``：Queue 和它的方法。

先放进去的先取出来；``full()`` 和 ``empty()`` 说它满了还是空了；往满的队列里 ``put``，从空的队列里 ``get``，
都会阻塞。这里的队列放三个东西，凡是能 pickle 的都可以；第四次 ``put`` 和第四次 ``get`` 会一直等，所以给它们
一个超时。

做不到的：放不了很多，全部都在内存里，没有上限就会一直长到内存用完。``full()`` 和 ``empty()`` 是问的那一刻的
答案：别的进程也在放和取，等你看到时可能已经变了。

Row 3, ``queue-basics``: a Queue and its methods.

What was put first comes out first; ``full()`` and ``empty()`` say whether it is full or empty; a ``put`` to a
full Queue and a ``get`` from an empty one block. This Queue holds three items of any kind that pickle can
store. The fourth ``put`` and the fourth ``get`` would block without end, so each has a timeout.

What it cannot do: it does not hold much, because all of it is in memory; without a bound it grows until the
memory is used up. ``full()`` and ``empty()`` were true when they were asked: other processes put and get, so
the answer may be wrong when you read it.
"""

import multiprocessing
import queue
import time
from multiprocessing.queues import Queue
from typing import Any

ITEMS: tuple[Any, ...] = ("hello", [1, 2, 3, 4], {"name": "alex", "age": 15})

#: Seconds after which a put or a get that blocks gives up.
PATIENCE = 1.0


def main(pace: float = 1) -> None:
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


if __name__ == "__main__":
    main()
