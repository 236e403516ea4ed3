"""A worker of an app that is nothing but the course's says on stderr what Celery would say on stdout.

Celery prints its banner, and what it does at a signal, to ``sys.__stdout__``. There the course's lines
would no longer stand alone. ``sys.__stdout__`` itself must stay: on SIGHUP Celery closes all files but
that, and starts anew.

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
    """Have Celery's ``worker`` print nothing to stdout.

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
    # Called by signal handlers too, so it uses no buffer that the interrupted code may be writing to.
    if sys.__stderr__ is not None:
        with suppress(OSError):
            os.write(sys.__stderr__.fileno(), f"\n{message}\n".encode(errors="replace"))
