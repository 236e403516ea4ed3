"""第四课 ``queue-basics``：Queue 和它的方法。

先放进去的先取出来；``full()`` 说它满了没有，``empty()`` 说它空了没有；往满的队列里 ``put``，从空的队列里
``get``，都会阻塞。这里的队列放三个东西，凡是能 pickle 的都可以。第四次 ``put`` 和第四次 ``get`` 会一直等
下去，所以给它们一个超时。

做不到的：只适合放少量的东西。全部都在内存里，没有上限就会一直长到内存用完。``full()`` 和 ``empty()`` 只是
问的那一刻的答案：别的进程也在放和取，等你看到时可能已经变了。

Lesson 4, ``queue-basics``: a Queue and its methods.

What was put first comes out first; ``full()`` says whether it is full and ``empty()`` whether it is empty; a
``put`` to a full Queue and a ``get`` from an empty one block. This Queue holds three items of any kind that
pickle can store. The fourth ``put`` and the fourth ``get`` would block without end, so each has a timeout.

What it cannot do: it is for few items, because all of them are in memory; without a bound it grows until the
memory is used up. ``full()`` and ``empty()`` were true when they were asked: other processes put and get, so
the answer may be wrong when you read it.
"""

import queue
import time
from multiprocessing import Queue
from typing import Any


def main(pace: float = 1) -> None:
    """放三个，取三个，看看什么时候阻塞。 Put three, get three, and show what blocks.

    Args:
        pace: seconds that the fourth put and the fourth get wait.
    """
    q: Any = Queue(3)
    q.put("hello")
    q.put([1, 2, 3, 4])
    q.put({"name": "alex", "age": 15})
    print(q.full())

    began = time.monotonic()
    try:
        q.put("第四个", timeout=pace)  # 没有 timeout 就一直等 without a timeout it would wait for ever
    except queue.Full:
        print(f"第四次put阻塞了{time.monotonic() - began:.1f}秒")

    print(q.get())
    print(q.get())
    print(q.get())
    print(q.empty())

    began = time.monotonic()
    try:
        q.get(timeout=pace)
    except queue.Empty:
        print(f"第四次get阻塞了{time.monotonic() - began:.1f}秒")


if __name__ == "__main__":
    main()
