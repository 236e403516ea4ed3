"""A worker's log: a message may hold any text, and none of it moves a terminal's cursor or forges a line.

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

#: What stands before each line of a traceback. An exception's text may have lines of its own.
_INDENT = "  "


class _Shown:
    """A value that is shown in one line when the log's line is made."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return shown(self._value)

    def __repr__(self) -> str:
        return shown(repr(self._value))


class EscapeFilter(logging.Filter):
    """Has control characters, and others that nobody can see, written out. Lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change ``record``: its values, its text and its traceback."""
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
    """Have a log file, which may be all that is left of a worker's output, say what was recorded.

    Celery's own lines of the level INFO would be one for each message of a batch.
    """
    if logfile:
        recorded_log.setLevel(logging.INFO)


@after_setup_logger.connect
@after_setup_task_logger.connect
def add_escape_filter(logger: logging.Logger, **_: object) -> None:
    """Have each handler of ``logger`` do so."""
    for handler in logger.handlers:
        handler.addFilter(EscapeFilter())
