"""The loop that all publishers share: publishes for some seconds, a number of messages, or at a rate."""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

#: Messages between two readings of the clock. A reading costs a tenth of the fastest put.
_LOOK_EVERY = 16


def parser() -> argparse.ArgumentParser:
    """Return the options that all publishers share."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=0, help="publish so long; 0: no end")
    options.add_argument("--count", type=int, default=0, help="publish so many; 0: no end")
    options.add_argument("--rate", type=float, default=0, help="so many a second; 0: flat out")
    options.add_argument("--tray", type=int, default=1, help="baozi in one message")
    return options


def publish(
    options: argparse.Namespace,
    put: Callable[[int], object],
    settle: Callable[[], object] = lambda: None,
    finish: Callable[[int], object] = lambda _: None,
) -> None:
    """Publish messages, and print as JSON how many baozi they had and how many seconds it took.

    The first put is not counted, because it opens the connection and declares the queues.

    Args:
        options: the parsed options of :func:`parser`.
        put: publishes the message with this number.
        settle: waits until the messages have the guarantee of this publisher, for example until they are
            confirmed.
        finish: called at the end with the number of messages. Its time is not counted.
    """
    put(0)
    settle()
    began = time.perf_counter()
    number = 0
    while not options.count or (number + 1) * options.tray < options.count:
        number += 1
        if options.rate:
            time.sleep(max(0.0, began + number / options.rate - time.perf_counter()))
        put(number)
        if options.seconds and number % _LOOK_EVERY == 0 and time.perf_counter() - began > options.seconds:
            break
    settle()
    took = time.perf_counter() - began
    finish(number + 1)
    print(json.dumps({"count": number * options.tray, "seconds": took}))


def item(number: int) -> dict[str, Any]:
    """Return the contents of each message: a baozi."""
    return {"run": "bench", "producer": "alex", "number": number, "made_at": time.time()}
