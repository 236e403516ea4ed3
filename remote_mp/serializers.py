"""How items become a message's body, and back: a message is a tray of one item or several."""

import io
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from baozi.errors import BaoziError, UsageError


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
    return json.dumps(item).encode()


def _json_tray(items: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _unpickled(body: bytes) -> list[Any]:
    source, items = io.BytesIO(body), []
    while source.tell() < len(body):
        items.append(pickle.load(source))  # noqa: S301  # asked for; its danger is in Queue's docstring
    return items


_SERIALIZERS = {
    "json": Serializer("application/json", _to_json, _json_tray, json.loads),
    "pickle": Serializer("application/x-python-serialize", pickle.dumps, b"".join, _unpickled),
}


def serializer(name: str) -> Serializer:
    """Return the serializer of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in _SERIALIZERS:
        raise UsageError(f"There is no serializer {name!r}; there are {', '.join(_SERIALIZERS)}.")
    return _SERIALIZERS[name]
