"""第三课 ``pipe-lock``：管道加锁，自己写一个 Queue。

课程说：队列 = 管道 + 锁。管道有两端，一端写，一端读。两个进程同时写，字节就会混在一起，同时读也一样，
所以每一端要有一把锁。管道不会数里面有几个东西，所以用信号量来数，位置用完了 ``put`` 就等。

做不到的：没有容量限制时，管道里最多放下系统的缓冲区（Linux 上 64 KiB），满了 ``put`` 就等；Queue 为此
另有一个线程和一个缓冲区。一个进程在 ``recv`` 里等待时被杀，锁就不会释放，别的进程永远等下去。不能跨机器。

Lesson 3, ``pipe-lock``: a pipe and locks, which together are a Queue.

The course: a Queue is a pipe and a lock. A pipe has an end to write to and an end to read from. Two processes
that write at once mix up their bytes, and so do two that read: each end needs a lock. A pipe does not count
what is in it: a semaphore does, and ``put`` waits when its slots are used up.

What it cannot do: without a capacity it holds no more than the operating system's buffer (64 KiB on Linux),
and then ``put`` waits; a Queue has a thread and a buffer of its own for that. A process that is killed while
it waits in ``recv`` never releases the lock, so the others wait without end. It does not cross machines.
"""

import multiprocessing
from typing import Any

from local_mp import sentinel_queue

#: 没有容量限制时的位置数：每个操作系统的信号量都数得到这么多。
#: Slots of a pipe without a capacity: a number that the semaphores of every operating system reach.
SLOTS = 32_767


class LockedPipe:
    """一个有 ``put`` 和 ``get`` 的管道。 A pipe with a Queue's ``put`` and ``get``."""

    def __init__(self, capacity: int = SLOTS, mp: Any = multiprocessing) -> None:
        """做一个最多放 ``capacity`` 个东西的管道。 Make a pipe for at most ``capacity`` items."""
        self._receiver, self._sender = mp.Pipe(duplex=False)
        self._reading, self._writing = mp.Lock(), mp.Lock()
        self._slots = mp.Semaphore(capacity)

    def put(self, item: object) -> None:
        """满了就等。 Waits while the pipe is full."""
        self._slots.acquire()
        with self._writing:
            self._sender.send(item)

    def get(self) -> Any:
        """空了就等，等的时候一直拿着锁。 Waits while the pipe is empty, and holds the lock while it waits."""
        with self._reading:
            item = self._receiver.recv()
        self._slots.release()
        return item


def main(pace: float = 1) -> None:
    """第五课的程序，换成这个管道。 Lesson 5's program with this pipe. ``pace``: factor on its seconds."""
    sentinel_queue.main(pace, LockedPipe())


if __name__ == "__main__":
    main()
