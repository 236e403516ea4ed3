"""第五课 ``queue``：生产者和消费者共用一个 Queue，用 ``None`` 收尾。

队列让两边互不等待：生产者不必认识消费者，快慢也可以不同。消费者不知道后面还有没有包子，
所以要告诉它：``None`` 表示没有了。课程说有几个生产者就放几个 ``None``，其实不对：每个消费者
取走一个 ``None`` 就结束，所以有几个消费者就要放几个，而且要等所有生产者都结束以后再放。

做不到的：不能跨机器。``put`` 返回时，包子只在生产者自己的缓冲区里，进程被杀就丢了。消费者在
``get`` 里等待时被杀，锁就再也不会释放，别的消费者永远取不到东西。

Lesson 5, ``queue``: producers and consumers share a Queue, and ``None`` ends the work.

A queue decouples the two sides: they do not know each other, and each has its own speed. A consumer cannot
know whether more baozi will come, so it is told: ``None`` means "no more". The course puts one ``None`` for
each producer. That is wrong: each consumer takes one and ends, so it must be one for each consumer, put
after every producer has ended.

What it cannot do: it does not cross machines. When ``put`` returns, the item is in a buffer of the
producer's own process and is lost if that process is killed. A consumer that is killed while it waits in
``get`` never releases the queue's lock, so no other consumer gets anything again.
"""

import time
from multiprocessing import Process, Queue
from typing import Any


def producer(queue: Any, name: str, count: int = 10, seconds: float = 1) -> None:
    """每隔 ``seconds`` 秒做一个包子，放进队列。 Make a baozi every ``seconds`` seconds and put it."""
    for number in range(count):
        time.sleep(seconds)
        baozi = f"{name}生产了第{number}个包子"
        queue.put(baozi)  # 队列满了就在这里等 waits here while the queue is full
        print(baozi)


def consumer(queue: Any, name: str, seconds: float = 2) -> None:
    """取一个吃一个，取到 ``None`` 为止。 Get a baozi and eat it, until ``None`` comes."""
    while (baozi := queue.get()) is not None:  # 队列空了就在这里等 waits here while the queue is empty
        time.sleep(seconds)
        print(f"{name}吃了{baozi}")


def main(pace: float = 1, queue: Any = None) -> None:
    """三个生产者各做十个，两个消费者来吃。 Three producers make ten each, two consumers eat.

    Args:
        pace: factor on the course's seconds.
        queue: the shared place, with ``put`` and ``get``. Default: a new ``Queue``.
    """
    queue = queue or Queue()
    producers = [Process(target=producer, args=(queue, name, 10, pace)) for name in ("alex", "peiqi", "egon")]
    consumers = [Process(target=consumer, args=(queue, name, 2 * pace)) for name in ("小明", "小红")]
    for process in producers + consumers:
        process.start()
    for process in producers:
        process.join()
    for _ in consumers:
        queue.put(None)
    for process in consumers:
        process.join()
    print("主进程")


if __name__ == "__main__":
    main()
