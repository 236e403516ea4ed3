"""Formats the reason why a task failed: the exception's type and text, and the end of its traceback."""

import traceback
from typing import Any

from baozi.errors import DeadLetter
from baozi.worker.checking import Refused

#: The most characters of a traceback, which is sent in a header.
_LONGEST = 4000


def attach_reason(einfo: Any, error: BaseException) -> None:
    """Add the reason and the traceback of ``error`` to ``einfo``, which goes to the worker's main process.

    Args:
        einfo: billiard's ExceptionInfo.
        error: the exception that the task raised.
    """
    einfo.reason = describe(error)
    einfo.end = "".join(traceback.format_exception(error))[-_LONGEST:]


def reason_and_traceback(einfo: Any, error: BaseException) -> tuple[str, str | None]:
    """Return what :func:`attach_reason` left in ``einfo``; if it left nothing, take it from ``error``.

    Args:
        einfo: billiard's ExceptionInfo.
        error: the exception in the worker's main process, where a failure such as a time limit may arise.
    """
    return getattr(einfo, "reason", describe(error)), getattr(einfo, "end", einfo.traceback)


def describe(error: BaseException) -> str:
    """Return the type and the text of ``error``; of a Refused or DeadLetter, only its text, the reason."""
    if isinstance(error, Refused | DeadLetter):
        return str(error)
    try:
        text = str(error)
    except Exception as another:  # its __str__ is a task's own code
        text = f"(its text raised {type(another).__name__})"
    return f"{type(error).__name__}: {text}"
