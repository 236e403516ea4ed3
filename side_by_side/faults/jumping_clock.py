"""``python -m side_by_side.faults.jumping_clock MODULE …`` runs a program on a clock that jumps.

Twice a second the time of day jumps by an hour, forward or back, as if an administrator or a wrong time
server had set it. ``time.monotonic`` does not jump: on no system it does.
"""

import runpy
import sys
import time

#: Seconds between two jumps; seconds of a jump.
_EVERY, _JUMP = 0.5, 3600

_true_time = time.time


def _jumping_time() -> float:
    return _true_time() + _JUMP * (int(time.monotonic() / _EVERY) % 3 - 1)


if __name__ == "__main__":
    # Before any other module is imported, so that none of them has the true clock.
    time.time = _jumping_time
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
