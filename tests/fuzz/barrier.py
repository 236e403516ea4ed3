"""A barrier: a task that ends when one of its kind runs in each slot of the worker under test."""

import time
from pathlib import Path

from tasks.app import reliable

#: Seconds to wait for the others.
_TIMEOUT = 20
_LOOK_EVERY = 0.02


@reliable.task(name="fuzz.wait_for_all")
def wait_for_all(folder: str, own: str, count: int) -> None:
    """Write a file with the name ``own`` in ``folder``, and wait until there are ``count`` such files."""
    (Path(folder) / own).touch()
    deadline = time.monotonic() + _TIMEOUT
    while len(list(Path(folder).glob("arrived-*"))) < count:
        if time.monotonic() > deadline:
            raise TimeoutError("the other tasks did not start")
        time.sleep(_LOOK_EVERY)
    (Path(folder) / own.replace("arrived", "finished")).touch()
