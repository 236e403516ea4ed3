"""Prints lines on an output that several processes share, such as a worker's stdout.

Each line reports what has already happened, for example that a baozi was eaten. So it is not an error if the
output fails (a closed pipe, a full disk, an encoding without these characters). A command whose output is its
result uses ``print`` instead, and ends with an error if the output fails.
"""

import io
import sys
from contextlib import suppress
from typing import TextIO, cast


def say(line: str, out: TextIO | None = None) -> None:
    """Write ``line`` and a newline in one write, so that the lines of several processes do not mix.

    ``print`` would write the newline separately if ``PYTHONUNBUFFERED`` is set, as in containers. A line that
    cannot be written is dropped.

    Args:
        line: the text, without the newline.
        out: the output. Default: the current ``sys.stdout``.
    """
    # sys.stdout is None if it was closed when Python started.
    out = sys.stdout if out is None else out
    if out is not None:
        with suppress(Exception):
            _write(out, f"{line}\n")


def _write(out: TextIO, text: str) -> None:
    out.flush()
    buffer = getattr(out, "buffer", None)
    if buffer is None:  # not a file, for example a StringIO
        out.write(text)
        return
    # Without the buffer, which would keep what cannot be written and raise an error when Python exits.
    file = getattr(buffer, "raw", buffer)
    data = text.encode(out.encoding, "backslashreplace")
    while data and (written := file.write(data)):  # None if a non-blocking output would block
        data = data[written:]


def best_effort(out: TextIO) -> TextIO:
    """Return an output, for a progress bar, that drops what cannot be written to ``out``."""
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
