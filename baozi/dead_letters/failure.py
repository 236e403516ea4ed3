"""Why a task failed: the exception's own type, its text and the end of its traceback."""

import traceback
from typing import Any

from baozi.errors import DeadLetter
from baozi.worker.checking import Refused

#: Characters of the end of a traceback: it travels in a header.
_LONGEST = 4000


def attach_reason(einfo: Any, error: BaseException) -> None:
    """Have ``einfo``, which a pool process sends to the worker's main process, tell of ``error`` itself.

    Args:
        einfo: billiard's.
        error: the exception that was raised.
    """
    einfo.reason = describe(error)
    einfo.end = "".join(traceback.format_exception(error))[-_LONGEST:]


def reason_and_traceback(einfo: Any, error: BaseException) -> tuple[str, str | None]:
    """Return what :func:`attach_reason` left in ``einfo``; if it left nothing, take it from ``error``.

    Args:
        einfo: billiard's.
        error: what arrived in the worker's main process, where the failure may have come about: a time limit.
    """
    return getattr(einfo, "reason", describe(error)), getattr(einfo, "end", einfo.traceback)


def describe(error: BaseException) -> str:
    """Return the type and the text of ``error``; of a refusal, only the reason that its text is."""
    if isinstance(error, Refused | DeadLetter):
        return str(error)
    try:
        text = str(error)
    except Exception as another:  # its __str__ is a task's own code
        text = f"(its text raised {type(another).__name__})"
    return f"{type(error).__name__}: {text}"
