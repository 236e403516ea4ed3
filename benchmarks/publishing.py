"""The same loop for every publisher: for so many seconds, or so many, or at a rate; then all is settled."""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

#: Between two looks at the clock, which costs as much as a tenth of the fastest put.
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
    """Publish as ``options`` say, and print how many baozi that were, and the seconds it took.

    The first put, which opens connections and declares, is not counted.

    Args:
        options: of :func:`parser`.
        put: publishes the message of this number.
        settle: returns when all that was put is as safe as it gets.
        finish: called at the end, off the clock, with the number of messages.
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
    """Return what every peer's message carries: a baozi."""
    return {"run": "bench", "producer": "alex", "number": number, "made_at": time.time()}
