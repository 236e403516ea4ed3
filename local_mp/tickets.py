"""第一课 ``tickets``：十个人抢三张票，先不加锁，再加锁。

文件是进程可以共享的地方。每个人先读还剩几张票，犹豫一下，再写回去少一张。不加锁时，第一个人还没写，大家就
都读过了，看到的都是三张，于是都买到了：同一张票卖了好几次。加了互斥锁就一个一个来：三个人买到，其余七个人
看到票已经卖完。

做不到的：快不起来，锁让所有人排成一队；而且锁只管加锁的人，忘了加锁的人照样能读能写。

Lesson 1, ``tickets``: ten buyers and three tickets, first without a lock, then with one.

A file is a place that processes share. Each buyer reads how many tickets are left, hesitates, and writes one
less. Without a lock all of them read before the first one writes: all see three tickets and all buy, so the
same ticket is sold several times. With a mutex they take turns: three buy, and the other seven find none.

What it cannot do: it is slow, because the lock makes one queue of all buyers. And a buyer that forgets the
lock is not stopped by it.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import Barrier, Lock, Process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def buy(name: str, folder: Path, lock: AbstractContextManager[Any], counter: Any, hesitation: float) -> None:
    """如果还有票就买一张。 Buy a ticket if one is left."""
    counter.wait()  # 等十个人都到齐，再一起开始 all ten begin at once, however long each took to start
    with lock:
        left = int((folder / "left").read_text())
        if left > 0:
            time.sleep(hesitation)  # 就在这段时间里，别人也读到了同一个数 others read the same number now
            (folder / "left").write_text(str(left - 1))
            (folder / f"{name}.ticket").touch()
    print(f"{name}{'买到了票' if left > 0 else '没有买到票'}\n", end="")


def sell(folder: Path, lock: AbstractContextManager[Any], hesitation: float) -> int:
    """三张票，十个人来买，返回卖出几张。 Let ten buyers buy three tickets; return how many were sold."""
    (folder / "left").write_text("3")
    counter = Barrier(10)
    buyers = [
        Process(target=buy, args=(f"乘客{number}", folder, lock, counter, hesitation)) for number in range(10)
    ]
    for process in buyers:
        process.start()
    for process in buyers:
        process.join()
    return len(list(folder.glob("*.ticket")))


def main(pace: float = 1) -> None:
    """先不加锁，再加锁。 Without the lock, then with it. ``pace``: factor on the hesitation."""
    for how, lock in (("不加锁", nullcontext()), ("加锁", Lock())):
        with TemporaryDirectory() as folder:
            sold = sell(Path(folder), lock, 0.5 * pace)
        print(f"{how}：3张票，卖出{sold}张", flush=True)


if __name__ == "__main__":
    main()
