"""How items become a message's body, and back: a message is a tray of one item or several."""

import io
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from baozi.errors import BaoziError, UsageError

#: Levels of lists and dictionaries in a JSON item. Readers in other languages take 64 to 1000. Python's own
#: needs stack for each level, and how much of it is free where an item is read is not known when it is put.
_DEEPEST = 100


class Unreadable(BaoziError):
    """A message was no item of this queue; it lies in the queue remote_mp.dead, with the reason."""


@dataclass(frozen=True, slots=True)
class Serializer:
    """One way to do it."""

    content_type: str
    """What a message says of its body; a body of any other type is not touched."""
    dumps: Callable[[Any], bytes]
    """Makes bytes of one item."""
    tray: Callable[[Sequence[bytes]], bytes]
    """Makes a body of the bytes of several."""
    around: int
    """Bytes that a body with one item has more than the item."""
    _loads: Callable[[bytes], list[Any]]

    def loads(self, content_type: object, body: bytes) -> list[Any]:
        """Return the items of a body: one or more.

        Raises:
            Unreadable: the body is not of this type, or damaged.
        """
        if content_type != self.content_type:
            raise Unreadable(f"A message's content type is {content_type!r}, and not {self.content_type}.")
        try:
            items = self._loads(body)
        except Exception as error:  # of a pickle, anything may come
            raise Unreadable(f"A message cannot be read: {type(error).__name__}: {error}.") from error
        if not isinstance(items, list) or not items:
            raise Unreadable("A message cannot be read: it is no list of items.")
        return items


def _to_json(item: Any) -> bytes:
    """Return ``item`` as JSON. What is read from it is equal to ``item``, but for tuples, which become lists.

    Raises:
        TypeError: a part of it is of a type that JSON does not have, or a dictionary's key is not a string.
        ValueError: it has NaN, an infinity, half of a surrogate pair or an integer of over 4300 digits; or it
            is nested too deep, as one that contains itself is.
    """
    _check(item, 0)
    return json.dumps(item, allow_nan=False).encode()


def _check(part: Any, level: int) -> None:
    """Raise for what ``json.dumps`` writes without an error and no client reads as it was."""
    if isinstance(part, str):
        _check_text(part)
    elif isinstance(part, dict | list | tuple):
        if level == _DEEPEST:
            raise ValueError(
                f"a JSON item is nested {_DEEPEST} levels deep at most, and must not contain itself"
            )
        if isinstance(part, dict):
            for key in part:
                if not isinstance(key, str):
                    raise TypeError(
                        f"a key of a JSON item is a string, not {type(key).__name__};"
                        ' with serializer="pickle" any key is kept'
                    )
                _check_text(key)
            part = part.values()
        for each in part:
            _check(each, level + 1)


def _check_text(text: str) -> None:
    # Most are ASCII, which Python knows of each string.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "a string of a JSON item has half of a surrogate pair, which is not Unicode:"
                f" {text[error.start]!a}"
            ) from None


def _from_json(body: bytes) -> Any:
    return json.loads(body, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _json_tray(items: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _unpickled(body: bytes) -> list[Any]:
    source, items = io.BytesIO(body), []
    while source.tell() < len(body):
        items.append(pickle.load(source))  # noqa: S301  # asked for; its danger is in Queue's docstring
    return items


_SERIALIZERS = {
    "json": Serializer("application/json", _to_json, _json_tray, 2, _from_json),
    "pickle": Serializer("application/x-python-serialize", pickle.dumps, b"".join, 0, _unpickled),
}


def serializer(name: str) -> Serializer:
    """Return the serializer of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in _SERIALIZERS:
        raise UsageError(f"There is no serializer {name!r}; there are {', '.join(_SERIALIZERS)}.")
    return _SERIALIZERS[name]
