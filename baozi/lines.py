"""Lines on an output that several processes share."""

import sys
from typing import TextIO


def say(line: str, out: TextIO | None = None) -> None:
    """Write ``line`` and its end in one write, at once, so that the lines of several processes do not mix.

    ``print`` writes the end by itself where Python does not buffer (``PYTHONUNBUFFERED``, as in containers).

    Args:
        line: without its end.
        out: where to; default: this process's stdout as it is now.
    """
    out = out or sys.stdout
    out.write(f"{line}\n")
    out.flush()
