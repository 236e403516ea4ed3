"""A program that puts, forks, and puts in all processes: ``python -m tests.integration.forking WAY FORK``."""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from baozi.model import Baozi
from baozi.settings import settings
from producers.publisher import Publisher
from tasks.eating import eat

#: How many each process puts at once.
EACH = 3
#: Seconds that a child may take in all, and one put of it: less than the silence after which a put would try
#: another connection.
_CHILD, PUT = 20, 5


def baozi(producer: str, number: int) -> Baozi:
    return Baozi(run="r", producer=producer, number=number, made_at=time.time())


def fork_of_os(work: Callable[[], None]) -> Callable[[], int]:
    """Fork as gunicorn does."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_of_multiprocessing(work: Callable[[], None]) -> Callable[[], int]:
    """Fork as multiprocessing does."""
    process: Any = multiprocessing.get_context("fork").Process(target=work)
    process.start()

    def code() -> int:
        process.join(_CHILD)
        return -1 if process.exitcode is None else int(process.exitcode)

    return code


FORKS = {"os": fork_of_os, "multiprocessing": fork_of_multiprocessing}


def publish(fork: Callable[[Callable[[], None]], Callable[[], int]]) -> list[int]:
    """Put with one publisher in the parent and in two children."""
    with Publisher("test", settings()) as publisher:

        def child(name: str) -> None:
            # What the parent has in flight is not this process's to confirm.
            publisher.flush(timeout=PUT)
            with publisher:
                for number in range(EACH):
                    publisher.put(baozi(name, number), timeout=PUT)
            publisher.put(baozi(name, EACH), timeout=PUT)

        publisher.put(baozi("parent", 0))
        publisher.put_ahead([baozi("parent", number) for number in range(1, 1 + EACH)])
        ends = [fork(partial(child, name)) for name in ("one", "two")]
        publisher.put(baozi("parent", 1 + EACH), timeout=PUT)
        codes = [end() for end in ends]
        publisher.put(baozi("parent", 2 + EACH), timeout=PUT)
    return codes


def abandon(fork: Callable[[Callable[[], None]], Callable[[], int]]) -> list[int]:
    """Put in the parent while children end by an error that leaves the publisher's block."""
    with Publisher("test", settings()) as publisher:

        def child() -> None:
            publisher.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

        publisher.put(baozi("parent", 0))
        publisher.put_ahead([baozi("parent", number) for number in range(1, 1 + EACH)])
        codes = [fork(child)() for _ in range(2)]
        publisher.flush(timeout=PUT)
        publisher.put(baozi("parent", 1 + EACH), timeout=PUT)
        publisher.put(baozi("parent", 2 + EACH), timeout=PUT)
    return codes


def delay(fork: Callable[[Callable[[], None]], Callable[[], int]]) -> list[int]:
    """Call the task with Celery's own producers in the parent and in two children."""

    def child(name: str) -> None:
        for number in range(EACH + 1):
            eat.delay(dict(baozi(name, number)))

    for number in range(1 + EACH):
        eat.delay(dict(baozi("parent", number)))
    ends = [fork(partial(child, name)) for name in ("one", "two")]
    eat.delay(dict(baozi("parent", 1 + EACH)))
    codes = [end() for end in ends]
    eat.delay(dict(baozi("parent", 2 + EACH)))
    return codes


WAYS = {"publisher": publish, "abandoned": abandon, "delay": delay}

if __name__ == "__main__":
    sys.exit(max(abs(code) for code in WAYS[sys.argv[1]](FORKS[sys.argv[2]])))
