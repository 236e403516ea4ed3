"""第六课 ``joinable-queue``：用 JoinableQueue，不再需要 ``None``。

队列记着还有几个包子没有吃完：``put`` 加一，``task_done()`` 减一，``join()`` 等到它变成零。所以生产者
知道的不只是包子都放进去了，而是都*吃完*了。消费者是守护进程，主进程结束时它们跟着结束。

做不到的：消费者在 ``get`` 和 ``task_done()`` 之间被杀，计数就永远多一个；生产者被杀也一样，它最后几个
包子已经计了数，却没有送出去。``join()`` 不接受超时，只能一直等下去。

Lesson 6, ``joinable-queue``: producers and consumers with a JoinableQueue, without ``None``.

The queue counts the baozi that are not done: ``put`` adds one, ``task_done()`` subtracts one, and ``join()``
waits until the count is zero. So a producer knows when all baozi were *eaten*, not only when all were put.
The consumers are daemons: they end when the main process ends.

What it cannot do: a consumer that is killed between ``get`` and ``task_done()`` leaves the count too high.
So does a producer that is killed: its last items were counted and never sent. ``join()`` takes no timeout,
so it waits without end.
"""

import time
from multiprocessing import JoinableQueue, Process
from typing import Any


def producer(queue: Any, name: str, count: int = 2, seconds: float = 1) -> None:
    """做完以后，等所有包子（包括别人的）都被吃完。 Make baozi; then wait until all are eaten."""
    for number in range(count):
        time.sleep(seconds)
        queue.put(f"{number}包子")
        print(f"{name} 生产了{number}包子")
    queue.join()


def consumer(queue: Any, name: str, seconds: float = 2) -> None:
    """吃完一个报一个，不会自己结束。 Eat, and report each one that is done. It does not end by itself."""
    while True:
        baozi = queue.get()
        time.sleep(seconds)
        # 守护进程被结束时不会清空缓冲区 a daemon that is ended does not flush what it printed
        print(f"{name}吃了{baozi}", flush=True)
        queue.task_done()  # 吃完才报：在这之前被杀，就不算吃过 killed before this line, it has not eaten


def main(pace: float = 1) -> None:
    """三个生产者各做两个，两个消费者来吃。 Three producers make two each, two consumers eat.

    Args:
        pace: factor on the course's seconds.
    """
    queue: Any = JoinableQueue()
    for name in ("消费者1", "消费者2"):
        Process(target=consumer, args=(queue, name, 2 * pace), daemon=True).start()
    producers = [
        Process(target=producer, args=(queue, name, 2, pace)) for name in ("生产者1", "生产者2", "生产者3")
    ]
    for process in producers:
        process.start()
    for process in producers:
        process.join()
    print("主进程")  # 生产者都回来了，说明都吃完了 all producers have returned, so all baozi are eaten


if __name__ == "__main__":
    main()
