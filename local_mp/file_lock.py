"""第二课 ``file-lock``：把文件当作共享空间，用互斥锁保护。

进程之间不共享内存，但是共享文件。只要同一时间只有一个进程使用它，文件就能当作共享空间；只是慢，而且锁要
自己写。包子放在一个文件里，一行一个；另一个文件记着还有几个在等，下一个从哪里读起。文件变了，没有谁会
通知你：满了或者空了，只能过一会儿再看。

做不到的：``multiprocessing.Lock`` 的持有者被杀，锁就永远不会释放。文件比进程活得久，但是消费者取走一个
包子以后被杀，这个包子就没有了。这把锁不能跨机器。

Lesson 2, ``file-lock``: a file as the shared place, protected by a mutex.

Processes do not share memory, but they share files. A file works as the shared place if one process at a time
uses it; it is slow, and you write the lock yourself. The baozi are in one file, a line each; a second file
says how many wait and where the next one begins. Nothing tells a process that a file has changed: if it is
full or empty, the process looks again a little later.

What it cannot do: a ``multiprocessing.Lock`` is never released if its holder is killed. The file outlives the
processes, but a baozi whose consumer is killed is gone. This lock does not cross machines.
"""

import json
import time
from multiprocessing import Lock
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from local_mp import sentinel_queue

#: 两次查看之间的秒数。 Seconds between two looks: more often costs processor time, less often costs waiting.
POLL = 0.01


class SharedFile:
    """一个有 ``put`` 和 ``get`` 的文件。 A file with a Queue's ``put`` and ``get``."""

    def __init__(self, folder: Path, lock: Any, capacity: int | None = None) -> None:
        """在 ``folder`` 里新建，最多放 ``capacity`` 个。 Make it in ``folder``, for ``capacity`` items."""
        self._items, self._state = folder / "items", folder / "state"
        self._lock = lock
        self._capacity = capacity
        self._items.write_text("")
        self._state.write_text(json.dumps({"waiting": 0, "offset": 0}))

    def put(self, item: object) -> None:
        """满了就过一会儿再看。 Looks again while the file is full."""
        while not self._append(item):
            time.sleep(POLL)

    def get(self) -> Any:
        """空了就过一会儿再看。 Looks again while the file is empty."""
        while not (found := self._take()):
            time.sleep(POLL)
        return json.loads(found)

    def _append(self, item: object) -> bool:
        with self._lock:
            state = json.loads(self._state.read_text())
            if self._capacity is not None and state["waiting"] >= self._capacity:
                return False
            with self._items.open("a") as items:
                items.write(json.dumps(item) + "\n")
            self._state.write_text(json.dumps(state | {"waiting": state["waiting"] + 1}))
            return True

    def _take(self) -> str:
        with self._lock:
            state = json.loads(self._state.read_text())
            if not state["waiting"]:
                return ""
            with self._items.open() as items:
                items.seek(state["offset"])
                line = items.readline()
                self._state.write_text(json.dumps({"waiting": state["waiting"] - 1, "offset": items.tell()}))
            return line


def main(pace: float = 1) -> None:
    """第五课的程序，换成这个文件。 Lesson 5's program with this file. ``pace``: factor on its seconds."""
    with TemporaryDirectory() as folder:
        sentinel_queue.main(pace, SharedFile(Path(folder), Lock()))


if __name__ == "__main__":
    main()
