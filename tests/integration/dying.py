"""``python -m tests.integration.dying POINT FILE -- MODULE …``: runs a program, killed once at a point.

The first of its processes that comes to the point makes FILE and is killed as by ``kill -9``.
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from baozi import execution
from baozi.recording import Recording
from baozi.transaction import Transaction
from baozi.upstream.request import Request
from baozi.worker.unsettled import Unsettled


def _die(file: Path) -> None:
    with suppress(FileExistsError):
        file.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


def _before(of: Any, name: str, die: Callable[[], None]) -> None:
    whole = getattr(of, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        die()
        return whole(*arguments, **options)

    setattr(of, name, dying)


def _after(of: Any, name: str, die: Callable[[], None]) -> None:
    whole = getattr(of, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        result = whole(*arguments, **options)
        die()
        return result

    setattr(of, name, dying)


def _before_the_acknowledgement(die: Callable[[], None]) -> None:
    _before(Request, "acknowledge", die)
    _before(Unsettled, "acknowledge", die)


#: What is changed to die at each point.
POINTS: dict[str, Callable[[Callable[[], None]], None]] = {
    "before the claim": lambda die: _before(Recording, "claim", die),
    "after the claim": lambda die: _after(Recording, "claim", die),
    "in the function, after some SQL": lambda die: _after(Transaction, "execute", die),
    "after the function": lambda die: _before(Recording, "finish", die),
    "before the commit": lambda die: _after(Recording, "finish", die),
    "after the commit": lambda die: _before(execution, "_notify_tasks", die),
    "before the acknowledgement": _before_the_acknowledgement,
}

if __name__ == "__main__":
    _, point, file, _, module, *arguments = sys.argv
    POINTS[point](lambda: _die(Path(file)))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
