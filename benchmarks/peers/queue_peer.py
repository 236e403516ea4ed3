"""Queues with ``put`` and ``get``: one producer and one consumer, end to end, with ``join`` if there is one.

For example ``python -m benchmarks.peers.queue_peer remote_mp --count 1000``. ``_OPENED`` and ``_MADE`` have
the other kinds.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any

from kombu import Connection

from baozi.worker.configuration import CONFIRMED
from benchmarks.bench import Bench
from benchmarks.publishing import item, parser, publish
from benchmarks.tally import eaten
from remote_mp import JoinableQueue

#: The window of remote_mp that README.md advises for speed.
_AHEAD = 1000


class _SimpleQueue:
    """kombu's SimpleQueue with the methods of the others. ``task_done`` acknowledges the message."""

    def __init__(self, bench: Bench) -> None:
        """Connect in this process."""
        options = CONFIRMED if bench.confirm else {}
        self._queue = Connection(bench.url, transport_options=options).SimpleQueue("peer")
        self.put = self._queue.put

    def get(self) -> Any:
        """Return the next item."""
        self._message = self._queue.get()
        return self._message.payload

    def task_done(self) -> None:
        """Acknowledge the last message."""
        self._message.ack()


def _remote(bench: Bench, window: int) -> Any:
    return JoinableQueue(name="peer", url=bench.url, window=window)


#: How each process opens the queue, by kind.
_OPENED: dict[str, Callable[[Bench], Any]] = {
    "remote_mp": lambda bench: _remote(bench, _AHEAD),
    "remote_mp-alone": lambda bench: _remote(bench, 1),
    "simple-queue": _SimpleQueue,
}
#: How the parent process makes a queue in memory, which its child inherits.
_MADE: dict[str, Callable[[], Any]] = {
    "multiprocessing": multiprocessing.JoinableQueue,
    "manager": lambda: multiprocessing.Manager().JoinableQueue(),
}


def _eat(opened: Callable[[], Any]) -> None:
    queue = opened()
    while (baozi := queue.get()) is not None:
        eaten(1, time.time() - baozi["made_at"])
        queue.task_done()
    queue.task_done()


def main() -> None:
    """Put and get, until all items are done."""
    kind, bench = sys.argv[1], Bench.here()
    made = _MADE[kind]() if kind in _MADE else None

    def opened() -> Any:
        return made if made is not None else _OPENED[kind](bench)

    consumer = multiprocessing.Process(target=_eat, args=(opened,))
    consumer.start()
    queue = opened()

    def stop(_messages: int) -> None:
        queue.put(None)
        if hasattr(queue, "join"):
            queue.join()
        consumer.join()

    publish(parser().parse_args(sys.argv[2:]), lambda number: queue.put(item(number)), finish=stop)


if __name__ == "__main__":
    main()
