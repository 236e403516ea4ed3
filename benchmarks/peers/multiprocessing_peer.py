"""``multiprocessing``: one producer and two consumers with a ``Queue`` or a Manager's queue, in memory.

There is no broker, so one program does all: ``python -m benchmarks.peers.multiprocessing_peer queue``.
"""

import multiprocessing
import sys
import time
from typing import Any

from benchmarks.publishing import item, parser, publish
from benchmarks.tally import eaten

_CONSUMERS = 2


def _eat(queue: Any) -> None:
    while (tray := queue.get()) is not None:
        eaten(len(tray), time.time() - tray[0]["made_at"])


def main() -> None:
    """Put and eat, until all baozi are eaten."""
    manager = multiprocessing.Manager() if sys.argv[1] == "manager" else None
    queue: Any = manager.Queue() if manager else multiprocessing.Queue()
    options = parser().parse_args(sys.argv[2:])
    consumers = [multiprocessing.Process(target=_eat, args=(queue,)) for _ in range(_CONSUMERS)]
    for consumer in consumers:
        consumer.start()

    def stop(_messages: int) -> None:
        for _ in consumers:
            queue.put(None)
        for consumer in consumers:
            consumer.join()

    publish(options, lambda number: queue.put([item(number) for _ in range(options.tray)]), finish=stop)


if __name__ == "__main__":
    main()
