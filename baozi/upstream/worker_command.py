"""``celery worker`` with one sentence and a named exit code for options that Celery cannot use.

Celery ends with a traceback and 1, for example if the user that ``--uid`` names does not exist. Errors before
Celery imports the app keep Celery's code: a pool that is not installed, ``--loader``, ``--workdir``.

Upstream: no thread is known.
Checked with: celery 5.7.0.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from click import ClickException
from click.exceptions import Abort, Exit

from baozi.errors import ExitCode, UsageError
from baozi.shown import shown


def end_with_named_exit_codes() -> None:
    """Change the worker's command, if this process is one of Celery's command line."""
    commands: Any = sys.modules.get("celery.bin.worker")
    if commands is not None and "invoke" not in vars(commands.worker):  # not changed already
        for name in ("make_context", "invoke"):
            setattr(commands.worker, name, _usage_error_on_error()(getattr(commands.worker, name)))


@contextmanager
def _usage_error_on_error() -> Iterator[None]:
    try:
        yield
    except Exit as end:
        if end.exit_code == ExitCode.LOSS:  # Celery has printed why
            raise Exit(ExitCode.USAGE) from None
        raise
    except (ClickException, Abort):
        raise
    except Exception as error:
        # Celery's own error may come from its handling of the first one.
        first = error.__context__ or error
        problem = first.args[0] if isinstance(first, KeyError) else first
        raise UsageError(
            "Celery cannot use the worker's options: {problem}. See `celery worker --help`.",
            problem=shown(problem),
        ) from error
