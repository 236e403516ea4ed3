"""第一行 ``tickets``：十个人买三张票，不加锁和加锁。

文件是进程可以共享的地方，没有互斥锁，同一张票会卖出好几次。每个人先读还剩几张，犹豫一下，再写少一张：
不加锁时，第一个人还没写，大家都已经读过，看到的都是三张，于是都买到了。加了锁就一个一个来：三个人买到，
其余七个看到已经没有了。

做不到的：快不起来，锁让所有人排成一队；而且忘了加锁的人，锁也拦不住。

Row 1, ``tickets``: ten buyers and three tickets, without and with a lock.

A file is a place that processes share, and without a mutex the same ticket is sold several times. Each buyer
reads how many tickets are left, hesitates, and writes one less. Without the lock all of them read before the
first one writes, so all see three tickets and all buy. With the lock they take turns: three buy, and the
other seven find none left.

What it cannot do: it is slow, because the lock makes one queue of all buyers. And a buyer that forgets the
lock is not stopped by it.
"""

import json
import multiprocessing
import time
from contextlib import nullcontext
from multiprocessing.context import DefaultContext
from multiprocessing.synchronize import Barrier, Lock
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

BUYERS = tuple(f"buyer {number}" for number in range(10))
TICKETS = 3

#: Seconds between a buyer's look at the file and the write. It is the gap through which tickets are sold
#: twice, so it must be longer than ten processes need to come to their turn.
HESITATION = 0.5


def buy(left: Path, name: str, counter: Barrier, lock: Lock | None, hesitation: float) -> None:
    """Buy a ticket if one is left.

    Args:
        left: the file that says how many are left.
        name: who buys.
        counter: where all buyers meet, so that they ask at once however long each took to start.
        lock: held from the look to the write; None to do without.
        hesitation: seconds between the look and the write.
    """
    counter.wait()
    with lock or nullcontext():
        tickets = json.loads(left.read_text())["tickets"]
        if not tickets:
            print(f"{name} finds no ticket\n", end="")
            return
        time.sleep(hesitation)
        left.write_text(json.dumps({"tickets": tickets - 1}))
        with (left.parent / "sold").open("a") as sold:
            sold.write(f"{name}\n")
        print(f"{name} has bought a ticket\n", end="")


def sell(locked: bool, hesitation: float, start_method: str | None = None) -> list[str]:
    """Let all buyers loose on the tickets.

    Args:
        locked: whether they use a lock.
        hesitation: seconds between a buyer's look and write.
        start_method: ``spawn``, ``fork`` or ``forkserver``; the platform's own when None.

    Returns:
        Who bought one.
    """
    mp = cast(DefaultContext, multiprocessing.get_context(start_method))
    lock = mp.Lock() if locked else None
    counter = mp.Barrier(len(BUYERS))
    with TemporaryDirectory() as folder:
        left = Path(folder) / "left"
        left.write_text(json.dumps({"tickets": TICKETS}))
        buyers = [
            mp.Process(target=buy, args=(left, name, counter, lock, hesitation), daemon=True)
            for name in BUYERS
        ]
        for buyer in buyers:
            buyer.start()
        for buyer in buyers:
            buyer.join()
        return (Path(folder) / "sold").read_text().splitlines()


def main(pace: float = 1) -> None:
    """Sell without the lock, then with it, and say how many were sold.

    Args:
        pace: the factor on the hesitation.
    """
    for locked in (False, True):
        sold = sell(locked, HESITATION * pace)
        print(f"{'with' if locked else 'without'} the lock: {TICKETS} tickets, {len(sold)} sold", flush=True)


if __name__ == "__main__":
    main()
