"""Escapes control characters in a worker's log, so that no message can forge a line or move the cursor.

Celery logs the names, ids and arguments of messages as they are.

Upstream: no thread is known.
Checked with: celery 5.7.0.
"""

import logging
from collections.abc import Mapping
from typing import Any

from celery.signals import after_setup_logger, after_setup_task_logger

from baozi.execution import recorded_log
from baozi.shown import shown, shown_lines

#: Indentation of each line of a traceback. An exception's text may have several lines.
_INDENT = "  "


class _Shown:
    """A value that is escaped when the log's line is formatted."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return shown(self._value)

    def __repr__(self) -> str:
        return shown(repr(self._value))


class EscapeFilter(logging.Filter):
    """Escapes control characters and other invisible ones. Lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the values, the text and the traceback of ``record``."""
        record.msg = shown_lines(record.msg) if isinstance(record.msg, str) else _Shown(record.msg)
        if isinstance(record.args, Mapping):
            record.args = {name: _escaped(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_escaped, record.args))
        if record.exc_info and not record.exc_text:
            record.exc_text = _traceback(record.exc_info)
        return True


def _escaped(value: Any) -> Any:
    # Numbers stay numbers, for "%d" and the like.
    return value if value is None or isinstance(value, int | float) else _Shown(value)


def _traceback(exc_info: Any) -> str:
    try:
        text = logging.Formatter().formatException(exc_info)
    except Exception as error:  # a log is best effort
        text = f"(no traceback: {type(error).__name__})"
    return "\n".join(_INDENT + shown(line) for line in text.split("\n"))


@after_setup_logger.connect
def log_recorded_tasks(logfile: object = None, **_: object) -> None:
    """Log the recorded tasks if there is a log file, which may be the only output that is kept.

    Celery's own lines of the level INFO would be one for each message of a batch.
    """
    if logfile:
        recorded_log.setLevel(logging.INFO)


@after_setup_logger.connect
@after_setup_task_logger.connect
def add_escape_filter(logger: logging.Logger, **_: object) -> None:
    """Add the filter to each handler of ``logger``."""
    for handler in logger.handlers:
        handler.addFilter(EscapeFilter())
