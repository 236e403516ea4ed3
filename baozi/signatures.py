"""Checks the Celery signatures that are put in an order: each is one reliable task with JSON arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from celery.canvas import Signature

from baozi.errors import UsageError
from baozi.framing import EncodedArguments
from baozi.model import follower_id

#: Levels of nested lists and dictionaries in an argument, as in remote_mp. Python's JSON module uses stack
#: for each level, and the worker may have less stack than this process.
_DEEPEST = 100
#: The types that become a JSON list or object.
_NESTED = (dict, list, tuple)
#: Bytes of a task id. It is the message's correlation id, an AMQP short string.
_LONGEST_ID = 255
#: Options of a signature that are ignored, because they would break a guarantee of the order.
_OURS = ("producer", "publisher", "connection", "router", "retry", "retry_policy", "declare", "mandatory")


def checked(signature: Any, app: Celery, base: type[Any]) -> tuple[Any, EncodedArguments, dict[str, Any]]:
    """Return the task, the encoded arguments and the options of ``signature``.

    Args:
        signature: what the user put.
        app: the order's app.
        base: the class of the tasks that may be put.

    Raises:
        UsageError: it is not a signature of one reliable task of ``app``, or its arguments are not JSON.
    """
    if not isinstance(signature, Signature):
        raise UsageError(
            "An order takes a signature, as charge.s(row), not an object of type {type}.",
            type=type(signature).__name__,
        )
    # By key, because Celery's attributes of a signature are slower.
    name = str(signature["task"])
    if type(signature) is not Signature or name.startswith("celery."):
        raise UsageError(
            "An order takes one task in each put, not {name}. Pass the tasks that follow it"
            " in its option link.",
            name=name,
        )
    own: Any = signature  # the stubs leave its app out
    if own._app is not None and own._app is not app:
        raise _stranger(name, app)
    task = checked_task(name, app, base)
    call = _call(task, signature["args"], signature["kwargs"])
    if not signature["options"]:
        return task, call, {}
    options = {key: value for key, value in signature["options"].items() if key not in _OURS}
    if options.get("serializer", "json") != "json":
        raise UsageError(
            "{name}: an order is sent as JSON, not as {serializer}.",
            name=name,
            serializer=options["serializer"],
        )
    task_id = options.get("task_id")
    if task_id is not None and not (
        isinstance(task_id, str) and task_id.isprintable() and 0 < len(task_id.encode()) <= _LONGEST_ID
    ):
        raise UsageError(
            "{name}: a task_id is a printable string of 1 to {longest} bytes.",
            name=name,
            longest=_LONGEST_ID,
        )
    return task, call, options


def checked_task(name: str, app: Celery, base: type[Any]) -> Any:
    """Return the task ``name`` of ``app``.

    Raises:
        UsageError: the app has no such task, or the task is not of the class ``base``.
    """
    task: Any = app.tasks.get(name)
    if task is None:
        raise _stranger(name, app)
    if not isinstance(task, base):
        raise UsageError(
            "The task {name} is not a reliable task, so no ledger records its result. Define"
            " it with @reliable.task to put it in an order.",
            name=name,
        )
    return task


def _stranger(name: str, app: Celery) -> UsageError:
    return UsageError(
        "The task {name} is not of the app {app!r}, to which this order belongs.", name=name, app=app.main
    )


def _call(task: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> EncodedArguments:
    try:
        if task.typing:
            task.__header__(*arguments, **keywords)
    except TypeError as error:
        raise UsageError("{name}: {error}.", name=task.name, error=error) from None
    try:
        _check_json(arguments, 0)
        if keywords:
            _check_json(keywords, 0)
        return EncodedArguments.of(arguments, keywords)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            "{name}: the arguments cannot be sent as JSON: {error}.", name=task.name, error=error
        ) from None


def _check_json(part: Any, level: int) -> None:
    """Check that ``part`` is the same after it was written as JSON and read again.

    Raises:
        TypeError: a key of a dictionary is not a string.
        ValueError: it is nested too deeply, is a dictionary that Celery would decode to another type, or has
            a string that is not Unicode.
    """
    if level > _DEEPEST:
        raise ValueError(f"they are nested more than {_DEEPEST} levels deep, or contain themselves")
    if isinstance(part, dict):
        for key in part:
            if not isinstance(key, str):
                raise TypeError(f"a dictionary's key is a {type(key).__name__}, not a string")
            if not key.isascii():
                key.encode()
        if "__type__" in part and part.keys() == {"__type__", "__value__"}:
            raise ValueError("the keys __type__ and __value__ are Celery's own")
        part = part.values()
    for each in part:
        if isinstance(each, str):
            if not each.isascii():
                each.encode()  # raises UnicodeEncodeError for a lone surrogate
        elif isinstance(each, _NESTED):
            _check_json(each, level + 1)


def with_ids(links: Any, task_id: str) -> list[Any]:
    """Return the signatures ``links``, each with a task id that is the same each time the first task is put.

    Args:
        links: a signature or a list of signatures, which follow the first task.
        task_id: the id of the first task.
    """
    signatures = links if isinstance(links, list | tuple) else [links]
    following = []
    for number, link in enumerate(signatures):
        signature = Signature.from_dict(link).clone()
        signature.options.setdefault("task_id", follower_id(task_id, number))
        following.append(signature)
    return following
