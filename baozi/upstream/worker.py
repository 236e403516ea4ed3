"""Celery's worker with the project's exit codes, where 1 only means a loss that an audit found.

Celery exits with 1 after any error and after a second SIGINT, and with 73 if another worker has the file of
``--pidfile``.

Upstream: celery/celery#7358 and celery/celery#8650 are about other exit codes. No thread about this one is
known.
Checked with: celery 5.7.0.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.apps.worker import Worker as CeleryWorker
from celery.platforms import LockFailed
from click import ClickException

from baozi.command_line import failed
from baozi.errors import ExitCode, UsageError


class Worker(CeleryWorker):
    """Celery's worker, but it ends with one of the project's exit codes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Pass all arguments to Celery.

        Raises:
            UsageError: a module of the app, or one that ``--include`` names, cannot be imported.
        """
        with _exit_code_on_error():
            try:
                super().__init__(*arguments, **options)
            except ImportError as error:
                raise UsageError("A module of the app cannot be imported: {error}.", error=error) from error

    prefetched: int | None = None
    """How many messages to prefetch for each pool process. Set by :mod:`baozi.worker.startup`."""

    prefetch_is_adapted = False
    """Whether the number may grow while functions are fast. Set by :mod:`baozi.worker.startup`."""

    def setup_defaults(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Apply Celery's defaults, with this class's value for the prefetch multiplier."""
        # The options are not repeated here as in the stubs.
        if self.prefetched is not None:
            options["prefetch_multiplier"] = self.prefetched
        return super().setup_defaults(*arguments, **options)

    def start(self) -> None:
        """Work until the worker is told to stop."""
        with _exit_code_on_error():
            super().start()

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Stop, and exit with ``exitcode``. Celery's own codes, 1 and 73, are replaced."""
        if exitcode == os.EX_CANTCREAT:
            exitcode = ExitCode.USAGE
        if exitcode == ExitCode.LOSS:
            error = sys.exception()
            if isinstance(error, LockFailed):  # the file that --pidfile names
                exitcode = ExitCode.USAGE
            else:
                exitcode = ExitCode.BUG if isinstance(error, Exception) else ExitCode.INTERRUPTED
        super().stop(in_sighandler=in_sighandler, exitcode=exitcode)


@contextmanager
def _exit_code_on_error() -> Iterator[None]:
    """End the process at an error with one sentence and an exit code, not a traceback and 1."""
    try:
        yield
    except ClickException:  # Celery's command line prints it
        raise
    except Exception as error:
        sys.exit(failed(error))
