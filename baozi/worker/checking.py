"""Checks a message before Celery reads it: is it a task of this app, and when is it due?

Celery does not check messages. A header of a wrong type raises an error in its event loop, in a pool process
after the work is done, or between the two, where the pool's slot is lost. A message that passes these checks
could have been sent by a Celery client. Any other is refused with a reason, and dead-lettered.
"""

import math
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from celery import Task
from celery.app.task import Context
from celery.utils.time import maybe_iso8601
from celery.worker import state
from kombu.utils.json import dumps

from baozi.amqp.decoding import fault
from baozi.amqp.inflating import inflated

#: The most bytes of a body: RabbitMQ 4's default limit. The limit of 3.10 is eight times that.
_LONGEST_BODY = 16 << 20
#: The most values in a body, because each needs memory when the body is decoded. A tray of 10,000 has 10,003.
_MOST_VALUES = 50_000
#: Encodings of a body that kombu's JSON reads, and those that are converted to UTF-8 for it. Decoding others
#: may take time that grows with the square of the length.
_UTF_8 = {"", "utf-8", "utf8", "ascii", "us-ascii", "binary"}
_OTHERS = {
    *("latin-1", "latin1", "iso-8859-1"),
    *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
}
#: The most characters of a name or an id. An AMQP short string, such as the correlation id, has 255 bytes.
_LONGEST_NAME = 255
#: The most seconds for which the broker can delay a message (Celery user guide "Native Delayed Delivery": 28
#: levels).
LONGEST_DELAY = 2**28 - 1

#: Reasons of dead letters: the message came too late, or was revoked.
EXPIRED, REVOKED = "expired", "revoked"


class Refused(Exception):
    """The message is not a task of this app. The text is the reason."""


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_count(value: object) -> bool:
    return _is_number(value) and isinstance(value, int)


def _is_timelimit(value: object) -> bool:
    both = list(value) if isinstance(value, list | tuple) else []
    return len(both) == 2 and all(limit is None or _is_number(limit) for limit in both)  # hard and soft


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(it, str) for it in value)


_NAME = (_is_name, f"a printable text of at most {_LONGEST_NAME} characters")
_TEXT = (lambda value: isinstance(value, str), "a text")
_TIME = (lambda value: isinstance(value, str | datetime), "a time")
_COUNT = (_is_count, "a number from 0")
_TABLE = (lambda value: isinstance(value, Mapping), "a table")

#: The headers that Celery reads (Celery's "Message Protocol", version 2, and additions of later releases),
#: each with its check and a description of valid values. A header may also be missing or None.
_HEADERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "task": _NAME,
    "id": _NAME,
    "root_id": _NAME,
    "parent_id": _NAME,
    "group": _NAME,
    "taskset": _NAME,
    "group_index": _COUNT,
    "shadow": _NAME,
    "lang": _TEXT,
    "meth": _TEXT,
    "origin": _TEXT,
    "argsrepr": _TEXT,
    "kwargsrepr": _TEXT,
    "eta": _TIME,
    "expires": _TIME,
    "retries": _COUNT,
    "timelimit": (_is_timelimit, "two numbers of seconds"),
    "ignore_result": (lambda value: isinstance(value, bool), "true or false"),
    "replaced_task_nesting": _COUNT,
    "stamped_headers": (_is_texts, "an array of texts"),
    "stamps": _TABLE,
    "headers": _TABLE,
    "utc": (lambda value: isinstance(value, bool), "true or false"),
}
#: Attributes that :mod:`baozi.task` sets on a task's request.
REQUEST_ATTRIBUTES = frozenset({"executing", "followers", "taken_off", "works"})
#: Attributes and methods of Celery's request. A header with such a name would replace them.
_RESERVED = (frozenset(dir(Context)) | REQUEST_ATTRIBUTES) - _HEADERS.keys()

#: Fields of the body's third part that contain the tasks to run after this one.
_FOLLOWERS = ("callbacks", "errbacks", "chain")


def check_headers(message: Any, tasks: Mapping[str, Task[Any, Any]]) -> None:
    """Check the headers of ``message``, and remove those that Celery must not read.

    A message of protocol 1 has its headers in its body; :func:`check_body` checks them.

    Args:
        message: a :class:`baozi.upstream.message.UninflatedMessage`.
        tasks: the tasks that a message may name.

    Raises:
        Refused: the message is not a task of this app.
    """
    unreadable = fault(message)
    if unreadable:
        raise Refused(unreadable)
    if message.headers.get("task") is not None:
        message.headers = _checked(message.headers, tasks)


def _checked(headers: Mapping[str, Any], tasks: Mapping[str, Task[Any, Any]]) -> dict[str, Any]:
    checked = {}
    for name, value in headers.items():
        known = _HEADERS.get(name)
        if known is None:
            if name not in _RESERVED:
                checked[name] = value
        elif value is not None:
            fits, what = known
            if not fits(value):
                raise Refused(f"not a Celery task: the header {name!r} is {_shown(value)}, not {what}")
            checked[name] = value
    task = tasks.get(checked["task"])
    if task is None:
        raise Refused(f"unknown task: {_shown(checked['task'])}")
    if "id" not in checked:
        raise Refused("not a Celery task: it has no id")
    _limit(checked, task)
    return checked


def _limit(headers: dict[str, Any], task: Task[Any, Any]) -> None:
    """Keep a message's time limits only if they are shorter than the task's."""
    limits = headers.pop("timelimit", ())
    own = (task.time_limit, task.soft_time_limit)
    shorter = [
        limit if limit and (ours is None or limit < ours) else None
        for limit, ours in zip(limits, own, strict=False)
    ]
    if any(shorter):
        headers["timelimit"] = shorter


def check_body(message: Any, tasks: Mapping[str, Task[Any, Any]]) -> None:
    """Decompress, decode and check the body of ``message``. Celery uses the decoded body.

    Args:
        message: a message whose headers were checked by :func:`check_headers`.
        tasks: the tasks that a message may name.

    Raises:
        Refused: the message is not a task of this app.
    """
    payload = _decoded(message)
    if isinstance(payload, dict):
        payload = _from_protocol_1(message, payload, tasks)
    elif message.headers.get("task") is None:
        raise Refused("not a Celery task: it has no task header")
    if not isinstance(payload, list) or len(payload) != 3:  # arguments, keyword arguments, followers
        raise Refused("not a Celery task: its body is not an array of three")
    args, kwargs, embed = payload
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Refused("not a Celery task: its arguments are not an array and a table")
    _check_embed(embed, tasks)


def _decoded(message: Any) -> Any:
    body: bytes | str = message.body
    if len(body) > _LONGEST_BODY:
        raise Refused(f"cannot be decoded: its body has {len(body)} bytes, more than {_LONGEST_BODY}")
    encoding = (message.content_encoding or "").lower()
    if encoding not in _UTF_8 | _OTHERS:
        raise Refused(f"cannot be decoded: its content encoding is {_shown(encoding)}")
    compression = message.headers.pop("compression", None)
    try:
        if compression:
            message.body = body = inflated(body, compression)  # type: ignore[arg-type]  # bytes on AMQP
        if _values(body) > _MOST_VALUES:
            raise Refused(f"cannot be decoded: its body has more than {_MOST_VALUES} values")
        if encoding in _OTHERS and isinstance(body, bytes):
            message.body, message.content_encoding = body.decode(encoding).encode(), "utf-8"
        return message.decode()
    except Refused:
        raise
    except Exception as error:  # of JSON, of a codec, or of the types that kombu adds to JSON
        raise Refused(f"cannot be decoded: {error}") from None


def _values(body: bytes | str) -> int:
    """Return about how many values the JSON has; more if its texts contain these characters."""
    marks: Collection[Any] = ("[", "{", ",") if isinstance(body, str) else (b"[", b"{", b",")
    return sum(map(body.count, marks))


def _from_protocol_1(message: Any, payload: dict[str, Any], tasks: Mapping[str, Task[Any, Any]]) -> list[Any]:
    """Convert ``message`` to protocol 2; return its new body."""
    given = {name: value for name, value in message.headers.items() if value is not None}
    headers = {name: payload[name] for name in _HEADERS if name in payload} | given
    if headers.get("task") is None:
        raise Refused("not a Celery task: it has no task header")
    message.headers = _checked(headers, tasks)
    embed = {name: payload[name] for name in (*_FOLLOWERS, "chord") if payload.get(name)}
    body = [payload.get("args", []), payload.get("kwargs", {}), embed]
    message.body, message.content_encoding = dumps(body).encode(), "utf-8"
    message._decoded_cache = body
    return body


def _check_embed(embed: object, tasks: Mapping[str, Task[Any, Any]]) -> None:
    """Check the tasks that follow this one, so that an error is found before this one is executed."""
    if embed is None:
        return
    if not isinstance(embed, dict):
        raise Refused("not a Celery task: what follows it is not a table")
    for name, followers in embed.items():
        if name == "chord" and followers:
            raise Refused("not a Celery task: a chord needs a result backend, and there is none")
        if name in _FOLLOWERS and followers is not None:
            if not isinstance(followers, list):
                raise Refused(f"not a Celery task: its {name} are {_shown(followers)}, not an array")
            for follower in followers:
                _check_signature(name, follower, tasks)
        elif name not in (*_FOLLOWERS, "chord"):
            raise Refused(f"not a Celery task: {_shown(name)} cannot follow it")


def _check_signature(name: str, signature: Any, tasks: Mapping[str, Task[Any, Any]]) -> None:
    fits = (
        isinstance(signature, dict)
        and isinstance(signature.get("task"), str)
        and signature["task"] in tasks
        and isinstance(signature.get("args", []), list)
        and isinstance(signature.get("kwargs", {}), dict)
        and isinstance(signature.get("options", {}), dict)
        and signature.get("subtask_type") is None
    )
    if not fits:
        raise Refused(
            f"not a Celery task: in its {name}, {_shown(signature)} is no call of a task of this app"
        )


def seconds_until_due(message: Any, now: float) -> int:
    """Return how many seconds remain until the ETA of ``message``; 0 if it is due.

    Args:
        message: a message whose headers were checked.
        now: UTC, in epoch seconds.

    Raises:
        Refused: it has expired, or its ETA is further away than the broker can delay a message.
    """
    if _at(message, "expires", math.inf) < now:
        raise Refused(EXPIRED)
    seconds = math.ceil(_at(message, "eta", now) - now)
    if seconds > LONGEST_DELAY:
        raise Refused(
            f"its ETA, {_shown(message.headers['eta'])}, is further away than the {LONGEST_DELAY} seconds for"
            " which the broker can delay a message"
        )
    if seconds <= 0:
        # With this header Celery would hold the message in its own timer, in the place of another message.
        message.headers.pop("eta", None)
        return 0
    return seconds


def check_before_start(request: Any, now: float) -> None:
    """Check a task when it starts: in a threads pool it may have waited since the first check.

    Args:
        request: the task's request.
        now: UTC, in epoch seconds.

    Raises:
        Refused: it has expired, or was revoked.
    """
    if request.expires and _epoch_seconds(request.expires) < now:
        raise Refused(EXPIRED)
    if request.id in state.revoked:
        raise Refused(REVOKED)


def _epoch_seconds(value: Any) -> float:
    at: Any = maybe_iso8601(value)
    # Celery's time zone here is UTC.
    return float((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _at(message: Any, name: str, otherwise: float) -> float:
    value = message.headers.get(name)
    if not value:
        message.headers.pop(name, None)
        return otherwise
    try:
        return _epoch_seconds(value)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        what = "ETA" if name == "eta" else name
        raise Refused(f"not a Celery task: invalid {what} value {_shown(value)}: {error}") from None


def _shown(value: object) -> str:
    """Return ``value`` printable and shortened, for an error. A foreign message may contain anything."""
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= _LONGEST_NAME else shown[:_LONGEST_NAME] + "…"


def names(tasks: Mapping[str, Any], kind: type) -> Mapping[str, Any]:
    """Return the tasks of ``kind``. Celery's own tasks, such as ``celery.map``, are of another kind."""
    return {name: task for name, task in tasks.items() if isinstance(task, kind)}
