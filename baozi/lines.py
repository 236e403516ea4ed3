"""Prints lines on an output that several processes share.

These lines report what has already happened: eaten, accepted, dropped. So a failing output (a closed pipe, a
    full
disk, an encoding without these characters) is not an error. A command whose output is its result uses
``print``, and ends with an error if the output fails.
"""

import io
import sys
from contextlib import suppress
from typing import TextIO, cast


def say(line: str, out: TextIO | None = None) -> None:
    """Write ``line`` and its end in one write, at once, so that the lines of several processes do not mix.

    Unbuffered (``PYTHONUNBUFFERED``, as in containers), ``print`` writes the end of the line separately. A
    line that cannot be written is dropped.

    Args:
        line: without its end.
        out: where to; default: this process's stdout as it is now.
    """
    # None: it was closed when Python started.
    out = sys.stdout if out is None else out
    if out is not None:
        with suppress(Exception):
            _write(out, f"{line}\n")


def _write(out: TextIO, text: str) -> None:
    out.flush()
    buffer = getattr(out, "buffer", None)
    if buffer is None:  # not a file: in a test, or where another program reads what is printed
        out.write(text)
        return
    # Past the buffer, which would keep what cannot be written and raise an error for it at Python's end.
    file = getattr(buffer, "raw", buffer)
    data = text.encode(out.encoding, "backslashreplace")
    while data and (written := file.write(data)):  # None: it would block, and is not to
        data = data[written:]


def best_effort(out: TextIO) -> TextIO:
    """Return an output for a progress bar. It drops what cannot be written to ``out``."""
    return cast(TextIO, _BestEffort(out))


class _BestEffort(io.TextIOBase):
    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def write(self, text: str) -> int:
        with suppress(Exception):
            _write(self._out, text)
        return len(text)

    def flush(self) -> None:
        with suppress(Exception):
            self._out.flush()

    def isatty(self) -> bool:
        return self._out.isatty()

    def fileno(self) -> int:
        return self._out.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # Rich reads it, and its base lets it be set
        return self._out.encoding
