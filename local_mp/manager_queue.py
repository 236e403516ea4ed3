"""第七课，课程里没有 ``manager-queue``：Manager 的队列，走 TCP，可以跨机器。

标准库里只有这个队列能给两台机器用：一个服务进程拿着队列，别的进程连上它，``put`` 和 ``get`` 都由它代做。
要有同一把密钥（authkey）才能连上。传输的是 pickle，谁有密钥，谁就能在服务器上运行代码。

做不到的：队列在服务进程的内存里，它被杀，里面的包子就都没有了。客户端在 ``get`` 里等待时被杀，服务器仍然
会为它取出下一个包子，这一个就丢了。

Lesson 7, beyond the course, ``manager-queue``: a Manager's queue over TCP, for several machines.

It is the standard library's only queue that two machines can share: a server process holds the queue, and the
others connect to it and have it do their ``put`` and ``get``. All need the same authkey. What travels is
pickled, so that a client with the authkey can run code on the server.

What it cannot do: the queue is in the server's memory, so everything in it is gone if the server is killed.
If a client is killed while it waits in ``get``, the server still takes the next item out for it: that item
is lost.
"""

import secrets
from collections.abc import Callable
from multiprocessing import Pipe, Process
from multiprocessing.managers import BaseManager
from queue import Queue
from typing import Any, cast

from local_mp import sentinel_queue


class QueueManager(BaseManager):
    """它只提供一样东西：队列。 It provides one thing, the queue."""


QueueManager.register("queue")


def serve(address: tuple[str, int], authkey: bytes, capacity: int, ready: Callable[[Any], object]) -> None:
    """拿着队列，直到进程结束。 Hold a queue of ``capacity`` items (0: no bound) until the process ends.

    ``ready`` is called with the address that the server listens at: port 0 takes any free port.
    """
    queue: Queue[Any] = Queue(capacity)
    QueueManager.register("queue", callable=lambda: queue)
    server = QueueManager(address, authkey).get_server()
    ready(server.address)
    try:
        server.serve_forever()
    finally:
        print(f"the Manager is gone, and {queue.qsize()} items with it")


def connect(address: tuple[str, int], authkey: bytes) -> Any:
    """连上服务器，得到队列。 Connect to the server and return its queue."""
    manager = QueueManager(address, authkey)
    manager.connect()
    return cast(Any, manager).queue()  # registered above


def main(pace: float = 1) -> None:
    """启动服务进程，再运行第五课的程序。 Start the server, then run lesson 5's program at ``pace``."""
    authkey = secrets.token_bytes(32)
    here, there = Pipe(duplex=False)
    Process(target=serve, args=(("127.0.0.1", 0), authkey, 0, there.send), daemon=True).start()
    sentinel_queue.main(pace, connect(here.recv(), authkey))


if __name__ == "__main__":
    main()
