"""What ``apply_async`` would send, framed by hand: most of one task message is as in the next.

Celery makes a message in some 0.3 ms. Here it makes one for each kind of task, with marks in the places
that differ, and those are filled in.
"""

import json
import sys
from collections.abc import Mapping
from struct import Struct
from typing import Any
from uuid import UUID

from amqp import Message
from amqp.serialization import dumps
from celery import Celery, Task, signals
from celery.utils.saferepr import saferepr
from kombu import Producer

from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.frames import Frames

#: A table's length, and a long string's.
_LONG = Struct(">I")
#: What stands in the pattern in place of a task's id and of its one argument.
_ID, _ITEM = str(UUID(int=0)), "the one argument"
_MARK = _ID.encode()


class Pattern:
    """The message of one kind of task with one argument, as ``apply_async`` makes it in this process."""

    def __init__(self, task: Any, channel: ConfirmedChannel, more_headers: Mapping[str, str]) -> None:
        """Let ``task`` (one of Celery's) make the pattern for ``channel``; nothing is sent.

        Each message has ``more_headers`` too.

        Raises:
            ValueError: a mark does not stand where it should, so that no message can be made of this.
        """
        recorder: Any = _Recorder(channel)
        task.apply_async(
            (_ITEM,),
            task_id=_ID,
            argsrepr=_ITEM,
            headers=more_headers,
            producer=Producer(recorder),
            retry=False,
            declare=[],
        )
        message: Any = recorder.message
        self._frames = Frames(channel.number, channel.frame_max, **recorder.way)
        self._longest_shown = task.app.amqp.argsrepr_maxsize
        self._before, self._after = _parted(message.body.encode(), json.dumps(_ITEM).encode())
        self._cut(message)

    def _cut(self, message: Any) -> None:
        """Cut the properties where they differ in length: at the headers' and the shown arguments'."""
        whole = message._serialize_properties()
        headers = dumps("F", (message.headers,))
        self._first, rest = _parted(whole, headers)
        start, end = _parted(headers[_LONG.size :], _LONG.pack(len(_ITEM)) + _ITEM.encode())
        self._headers_start, self._headers_end = start, end + rest
        self._headers_length = len(start) + _LONG.size + len(end)

    def fill(self, task_id: str, item: Mapping[str, Any]) -> bytes:
        """Return all frames of the message for ``item``: a dictionary of strings, numbers, lists and such."""
        new = task_id.encode()
        body = b"".join((self._before, json.dumps(item).encode(), self._after))
        shown = self._shown(item).encode()
        properties = (
            self._first,
            _LONG.pack(self._headers_length + len(shown)),
            self._headers_start.replace(_MARK, new),
            _LONG.pack(len(shown)),
            shown,
            self._headers_end.replace(_MARK, new),
        )
        return self._frames.of(b"".join(properties), body)

    def _shown(self, item: Mapping[str, Any]) -> str:
        shown = f"({item!r},)"
        # Celery's own way, many times slower, differs where a string has quotes or must be escaped or cut.
        if '"' in shown or "\\" in shown or len(shown) > self._longest_shown:
            return saferepr((item,), self._longest_shown)
        return shown


def _parted(whole: bytes, mark: bytes) -> tuple[bytes, bytes]:
    before, found, after = whole.partition(mark)
    if not found or mark in after:
        raise ValueError("a task message is not made as it was: its mark is missing, or there twice")
    return before, after


class _Recorder:
    """Takes the place of a channel: keeps the message that it is given to publish."""

    message: Message
    way: dict[str, Any]
    """Exchange, routing key and whether it is mandatory."""

    def __init__(self, channel: ConfirmedChannel) -> None:
        """Prepare messages as the true ``channel`` does."""
        true: Any = channel.producer.channel
        self.connection = true.connection
        self.prepare_message = true.prepare_message

    def basic_publish(
        self, message: Message, exchange: str, routing_key: str, mandatory: bool, **_waits: Any
    ) -> None:
        """Keep it, and where it would go."""
        self.message = message
        self.way = {"exchange": exchange, "routing_key": routing_key, "mandatory": mandatory}


class Patterns:
    """The patterns of a channel's tasks, made as they are needed."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Begin without any; each message will have ``headers`` beside Celery's."""
        self.headers = headers
        self._channel: ConfirmedChannel | None = None
        self._made: dict[str, Pattern | None] = {}

    def of(self, task: Any, channel: ConfirmedChannel) -> Pattern | None:
        """Return the pattern of ``task`` on ``channel``; None where ``apply_async`` must send each message.

        So it is where somebody listens to Celery's publish signals or has put something around its
        functions, as tracing libraries do, where a task is at work, whose child this one would be, and on a
        transport that takes no frames.
        """
        if any(signal.receivers for signal in _SIGNALS) or task.app.current_worker_task:
            return None
        if channel is not self._channel:
            self._channel, self._made = channel, {}
        if task.name not in self._made:
            plain = channel.takes_frames and not task.app.conf.task_send_sent_event and _all_as_made()
            self._made[task.name] = Pattern(task, channel, self.headers) if plain else None
        return self._made[task.name]


_SIGNALS = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)
#: Where tracing libraries put something around.
_STEPS = ((Task, "apply_async"), (Celery, "send_task"), (Producer, "publish"))


def _all_as_made() -> bool:
    return all(_as_made(where, name) for where, name in _STEPS)


def _as_made(where: type, name: str) -> bool:
    function: Any = getattr(where, name)
    code = getattr(function, "__code__", None)
    own = sys.modules[where.__module__].__file__
    return code is not None and code.co_filename == own and not hasattr(function, "__wrapped__")
