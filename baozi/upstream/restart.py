"""SIGHUP runs the command that started the worker again.

Celery runs the interpreter with ``sys.argv``. For ``python -m celery`` that is a file in the package celery.
Run as a file, it does not find its package, and the worker ends.

Upstream: no thread is known; celery/celery#26 asked for the restart by SIGHUP.
Checked with: celery 5.7.0.
"""

import os
import sys

import celery.apps.worker
from celery.platforms import close_open_fds

from baozi.upstream import replace


def restart_with_the_same_command() -> None:
    """Let SIGHUP run the command that started this process.

    Raises:
        UpstreamChanged: Celery restarts by another function.
    """
    replace(celery.apps.worker, "_reload_current_worker", _restart)


def _restart() -> None:
    close_open_fds({0, 1, 2})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # the same program
