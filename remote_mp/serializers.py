"""Converts items to the body of a message, and back. A message has one item, or a batch of several."""

import io
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from baozi.errors import BaoziError, UsageError

#: Levels of lists and dictionaries in a JSON item. Readers in other languages accept 64 to 1000. Python's
#: reader needs stack for each level, and ``put`` does not know how much is free where the item is read.
_DEEPEST = 100


class Unreadable(BaoziError):
    """A message was not an item of this queue. It is in the queue remote_mp.dead, with the reason."""


@dataclass(frozen=True, slots=True)
class Serializer:
    """One format of items: JSON or pickle."""

    content_type: str
    """The content type of its messages. A body of another content type is not read."""
    dumps: Callable[[Any], bytes]
    """Returns one item as bytes."""
    join: Callable[[Sequence[bytes]], bytes]
    """Returns the body of a message with these items, each of them as bytes."""
    overhead: int
    """How many bytes the body of a message with one item has in addition to that item's bytes."""
    _loads: Callable[[bytes], list[Any]]

    def loads(self, content_type: object, body: bytes) -> list[Any]:
        """Return the items of a body. There is at least one.

        Raises:
            Unreadable: the content type is another, or the body cannot be read.
        """
        if content_type != self.content_type:
            raise Unreadable(f"A message's content type is {content_type!r}, not {self.content_type}.")
        try:
            items = self._loads(body)
        except Exception as error:  # a pickle can raise any exception
            raise Unreadable(f"A message cannot be read: {type(error).__name__}: {error}.") from error
        if not isinstance(items, list) or not items:
            raise Unreadable("A message cannot be read: it is not a list of items.")
        return items


def _to_json(item: Any) -> bytes:
    """Return ``item`` as JSON. Reading it gives an equal item, but tuples become lists.

    Raises:
        TypeError: a part of the item has a type that JSON does not have, or a key is not a string.
        ValueError: the item contains NaN, an infinity, half of a surrogate pair or an integer of over 4300
            digits; it is nested too deeply; or it contains itself.
    """
    _check(item, 0)
    return json.dumps(item, allow_nan=False).encode()


def _check(part: Any, level: int) -> None:
    """Raise for what ``json.dumps`` would write without an error, but a reader would get changed."""
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
    # Most texts are ASCII, and Python stores with each string whether it is.
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


def _join_json(items: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _unpickled(body: bytes) -> list[Any]:
    source, items = io.BytesIO(body), []
    while source.tell() < len(body):
        items.append(pickle.load(source))  # noqa: S301  # the user chose it; Queue's docstring has the warning
    return items


_SERIALIZERS = {
    "json": Serializer("application/json", _to_json, _join_json, 2, _from_json),
    "pickle": Serializer("application/x-python-serialize", pickle.dumps, b"".join, 0, _unpickled),
}


def serializer(name: str) -> Serializer:
    """Return the serializer with this name.

    Raises:
        UsageError: there is no such serializer.
    """
    if name not in _SERIALIZERS:
        raise UsageError(f"There is no serializer {name!r}; there are {', '.join(_SERIALIZERS)}.")
    return _SERIALIZERS[name]
