"""Prints Celery's own lines on stderr, so that a course app's stdout has only the course's lines.

Celery prints its banner, and a line at each signal, to ``sys.__stdout__``. ``sys.__stdout__`` itself must
stay open: on SIGHUP Celery closes all other files and starts again.

Upstream: no thread is known.
Checked with: celery 5.7.0.
"""

import os
import sys
from contextlib import suppress
from typing import Any

import celery.apps.worker

from baozi.upstream import replace


def keep_off_stdout(worker: Any) -> None:
    """Make Celery's ``worker`` print to stderr instead of stdout.

    Raises:
        UpstreamChanged: Celery prints by another function.
    """
    replace(celery.apps.worker, "safe_say", _say)

    def emit_banner() -> None:
        stdout = sys.__stdout__
        setattr(sys, "__stdout__", sys.__stderr__)  # noqa: B010  # its stubs call it final
        try:
            celery.apps.worker.Worker.emit_banner(worker)
        finally:
            setattr(sys, "__stdout__", stdout)  # noqa: B010  # its stubs call it final

    worker.emit_banner = emit_banner


def _say(message: str, file: Any = None) -> None:  # noqa: ARG001  # as Celery's own has it
    # Signal handlers call this too. So it must not use a buffer that the interrupted code may be writing to.
    if sys.__stderr__ is not None:
        with suppress(OSError):
            os.write(sys.__stderr__.fileno(), f"\n{message}\n".encode(errors="replace"))
