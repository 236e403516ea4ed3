"""Celery's worker, with our exit codes: 1 is a loss that an audit found, and nothing else.

Celery ends with 1 after any error, and after a second SIGINT too.

Upstream: celery/celery#7358 and celery/celery#8650 are about other exit codes. No thread is known of this
one.
Checked with: celery 5.7.0.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.apps.worker import Worker as CeleryWorker
from click import ClickException

from baozi.command_line import failed
from baozi.errors import ExitCode


class Worker(CeleryWorker):
    """Celery's, but its end has a named exit code."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take Celery's own arguments."""
        with _exit_code_on_error():
            super().__init__(*arguments, **options)

    prefetched: int | None = None
    """Messages to fetch for each pool process, as :mod:`baozi.worker.startup` says."""

    def setup_defaults(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Take Celery's own defaults; its command line always gives one for what is prefetched."""
        # The stubs name each option; they are Celery's affair.
        if self.prefetched is not None:
            options["prefetch_multiplier"] = self.prefetched
        return super().setup_defaults(*arguments, **options)

    def start(self) -> None:
        """Work until the worker is told to stop."""
        with _exit_code_on_error():
            super().start()

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Stop, and exit with ``exitcode`` but 1, which Celery gives for any error."""
        if exitcode == ExitCode.LOSS:
            exitcode = ExitCode.BUG if isinstance(sys.exception(), Exception) else ExitCode.INTERRUPTED
        super().stop(in_sighandler=in_sighandler, exitcode=exitcode)


@contextmanager
def _exit_code_on_error() -> Iterator[None]:
    """End the process with a sentence and an exit code where Python would with a traceback and 1."""
    try:
        yield
    except ClickException:  # Celery's command line does so itself
        raise
    except Exception as error:
        sys.exit(failed(error))
