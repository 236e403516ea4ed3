"""Executes a batch in a pool process: Celery's tracer runs each message, and one commit records all."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from celery import states
from celery.app.task import Context
from celery.app.trace import trace_task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.utils.log import get_logger
from kombu.utils.json import object_hook

from baozi import execution, reliable
from baozi.dead_letters import failure
from baozi.errors import LedgerAway, NameInUse
from baozi.execution import Raised, Work
from baozi.task import FailedInBatch

logger = get_logger(__name__)

#: Fields of the third part of a message's body: what follows the task, if a field has a value.
_EMBEDDED = {"callbacks", "errbacks", "chain", "chord"}
#: Names of Celery's own headers, from :class:`celery.app.task.Context`.
_CELERY_HEADERS = frozenset(vars(Context)) | {"lang", "task", "argsrepr", "kwargsrepr", "compression"}
_DECODER = json.JSONDecoder(object_hook=object_hook)


class Item(NamedTuple):
    """One message of a batch."""

    body: bytes | str
    headers: Mapping[str, Any]
    delivery_info: Mapping[str, Any]


class Finished(NamedTuple):
    """A message of a batch that is done, with the values of Celery's event."""

    number: int
    result: str
    runtime_s: float


class Answer(NamedTuple):
    """The result of a batch."""

    finished: list[Finished]
    failed: list[int]
    """The numbers, in the batch, of the messages that must be executed alone."""
    not_begun: list[int]
    """The numbers of the messages for which the batch had no time. They may be in the next batch."""


def execute_batch(
    task_name: str, hostname: str, items: Sequence[Item], longest_s: float | None = None
) -> Answer:
    """Execute the messages ``items`` of one task.

    Celery's signals are sent for each message before the commit. If the commit fails, they are sent again
    when each message is executed alone.

    Args:
        task_name: the task's name.
        hostname: the worker's node name.
        items: the messages, as received.
        longest_s: seconds after which no other message of the batch is begun. None: only the task's soft time
            limit counts, and then the rest is executed one by one.

    Returns:
        What became of each. It never raises an exception, because solo and threads pools would treat it as
        the worker's own.
    """
    try:
        return _execute(task_name, hostname, items, longest_s)
    except (LedgerAway, NameInUse) as error:
        logger.warning("%s The messages of a batch are tried one by one.", error)
    except Reject:
        logger.warning("The messages of a batch are tried one by one.")
    except Raised as raised:
        about = failure.describe(raised.error)
        logger.warning("%s failed with a list. Its messages are tried one by one: %s", task_name, about)
    except SoftTimeLimitExceeded:
        logger.warning("A batch took too long: its messages are tried one by one.")
    except Exception:
        logger.exception("A batch failed: its messages are tried one by one.")
    return Answer([], list(range(len(items))), [])


def _execute(task_name: str, hostname: str, items: Sequence[Item], longest_s: float | None) -> Answer:
    began = time.monotonic()
    app = reliable.of_worker().app
    task: Any = app.tasks[task_name]
    finished: dict[int, Finished] = {}
    prepared: dict[int, tuple[list[Any], dict[str, Any], list[Work]]] = {}
    for number, item in enumerate(items):
        with suppress(Exception):  # when it is executed alone, its error is reported
            args, kwargs, embed = _loads(item.body)
            if embed.keys() <= _EMBEDDED and not any(embed.values()):
                works = task.works(args, kwargs, item.headers["id"], item.headers.get)
                prepared[number] = args, kwargs, works
    not_begun: list[int] = []
    with execution.together(task.recorder(hostname), task.in_transaction) as group:
        group.add([work for _, _, works in prepared.values() for work in works])
        first_began = time.monotonic()
        for number, (args, kwargs, works) in prepared.items():
            if longest_s is not None and finished and time.monotonic() - first_began >= longest_s:
                not_begun = [later for later in prepared if later >= number]
                break
            request = {
                "headers": _custom_headers(items[number].headers),
                **items[number].headers,
                "args": args,
                "kwargs": kwargs,
                "hostname": hostname,
                "delivery_info": items[number].delivery_info,
                "works": works,
            }
            traced = trace_task(task, request["id"], tuple(args), kwargs, request, app=app, hostname=hostname)
            info: Any = traced.info
            if info is None or info.state == states.RETRY or _is_ignored(info):
                finished[number] = Finished(number, str(traced.retstr), traced.runtime or 0.0)
            if _is_out_of_time(info) or time.monotonic() - began >= task.soft_time_limit:
                logger.warning("A batch took too long: what is left of it is tried one by one.")
                break
        if task.as_list and task.in_transaction and len(finished) < len(prepared):
            # The function has also run for the messages that failed. Its effects must not be committed for
            # them.
            raise Raised(RuntimeError("one of its messages did not succeed."))
    settled = finished.keys() | set(not_begun)
    failed = [number for number in range(len(items)) if number not in settled]
    return Answer(list(finished.values()), failed, not_begun)


def _loads(body: bytes | str) -> Any:
    """Decode like kombu, but with one decoder for all messages."""
    return _DECODER.decode(body.decode() if isinstance(body, bytes) else body)


def _custom_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers that are not Celery's, as Celery's request does."""
    return {name: value for name, value in headers.items() if name not in _CELERY_HEADERS}


def _is_ignored(info: Any) -> bool:
    """Return whether the task itself raised Celery's Ignore."""
    return bool(info.state == states.IGNORED and not isinstance(info.retval, FailedInBatch))


def _is_out_of_time(info: Any) -> bool:
    """Return whether the message failed because the batch reached its soft time limit meanwhile.

    The signal of the soft limit comes only once. Code that runs after it runs until the hard limit kills the
    process.
    """
    return info is not None and isinstance(getattr(info.retval, "error", info.retval), SoftTimeLimitExceeded)
