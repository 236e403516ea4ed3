"""``python -m side_by_side.faults.jumping MODULE …``: runs a program on a clock that jumps.

The time of day is wrong by an hour, to and fro, twice a second, as by an administrator's hand or a bad time
server. ``time.monotonic`` is not: no system's is.
"""

import runpy
import sys
import time

#: Seconds.
_EVERY, _JUMP = 0.5, 3600

_true_time = time.time


def _jumping_time() -> float:
    return _true_time() + _JUMP * (int(time.monotonic() / _EVERY) % 3 - 1)


if __name__ == "__main__":
    # Before any other module is loaded, so that nobody has the true one.
    time.time = _jumping_time
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
