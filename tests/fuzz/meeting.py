"""A task for the worker under test, which ends when so many of its kind run at once: one in each slot."""

import time
from pathlib import Path

from tasks.app import reliable

#: Seconds to wait for the others.
_TIMEOUT = 20
_LOOK_EVERY = 0.02


@reliable.task(name="fuzz.meet")
def meet(folder: str, own: str, count: int) -> None:
    """Write a file of one's ``own`` name in ``folder``, and wait until there are ``count``."""
    (Path(folder) / own).touch()
    deadline = time.monotonic() + _TIMEOUT
    while len(list(Path(folder).glob("came-*"))) < count:
        if time.monotonic() > deadline:
            raise TimeoutError("the others did not come")
        time.sleep(_LOOK_EVERY)
    (Path(folder) / own.replace("came", "met")).touch()
