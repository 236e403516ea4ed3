"""Makes task messages from a pattern, because most of a task's message is the same each time.

Celery takes about 0.3 ms to make a message. Here Celery makes one message for each task, with marks where
messages differ. For each message the marks are replaced.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import randbits
from struct import Struct
from typing import Any, AnyStr, Self
from uuid import uuid4

from amqp import Message
from amqp.serialization import dumps
from celery import Celery, Task, signals
from celery.utils.saferepr import saferepr
from kombu import Producer
from kombu.utils import json as kombu_json

from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.frames import Frames
from baozi.model import NUMBER_HEADER, Baozi

#: A table's length, and a long string's; a large integer and a float in a table.
_LONG, _NUMBER, _TIME = Struct(">I"), Struct(">q"), Struct(">d")
#: The marks in a pattern. They are random, so that no name equals one of them.
_ID, _ARGUMENTS, _KEYWORDS = (str(uuid4()) for _ in range(3))
_NUMBER_MARK, _TIME_MARK = (1 << 62) + randbits(60), 1e9 + randbits(50)

#: Encodes what is JSON. It refuses NaN and infinity, which JSON does not have.
_plain = json.JSONEncoder(allow_nan=False)
#: Encodes dates, decimal numbers and such too, as Celery does.
_celerys = kombu_json.JSONEncoder(allow_nan=False)


@dataclass(slots=True)
class EncodedArguments:
    """The arguments of one message, and their JSON."""

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    encoded: tuple[str, str]

    @classmethod
    def of(cls, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Self:
        """Return the call with these arguments.

        Raises:
            TypeError, ValueError, RecursionError: they cannot be written as JSON.
        """
        return cls(
            tuple(arguments), keywords, (_encoded(arguments), _encoded(keywords) if keywords else "{}")
        )


def _encoded(arguments: object) -> str:
    try:
        return _plain.encode(arguments)
    except TypeError:
        return _celerys.encode(arguments)


class Pattern:
    """The message of one kind of task, as ``apply_async`` makes it in this process."""

    def __init__(
        self, task: Any, channel: ConfirmedChannel, headers: Mapping[str, Any], call: EncodedArguments
    ) -> None:
        """Let ``task`` (one of Celery's) make the pattern for ``channel``; nothing is sent.

        Args:
            task: the task.
            channel: where the messages will be published.
            headers: beside Celery's, with marks in the place of a number and a time that differ.
            call: the arguments of one of the messages.

        Raises:
            ValueError: a mark is missing or repeated, so that no message can be made of this.
        """
        recorder: Any = _Recorder(channel)
        task.apply_async(
            call.arguments,
            call.keywords,
            task_id=_ID,
            argsrepr=_ARGUMENTS,
            kwargsrepr=_KEYWORDS,
            headers=headers,
            producer=Producer(recorder),
            retry=False,
            declare=[],
        )
        message: Any = recorder.message
        self._frames = Frames(channel.number, channel.frame_max, **recorder.way)
        self._longest_shown = task.app.amqp.argsrepr_maxsize
        nothing, self._body_end = _divided(message.body, f"[{', '.join(call.encoded)}, ")
        if nothing:
            raise ValueError("a task message is not made as it was: its body begins with something else")
        self._divide(message, NUMBER_HEADER in headers)

    def _divide(self, message: Any, numbered: bool) -> None:
        """Divide the properties where messages differ."""
        whole, table = message._serialize_properties(), dumps("F", (message.headers,))
        first, rest = _divided(whole, table)
        rest = table[_LONG.size :] + rest
        marks = [_ID.encode(), *(_LONG.pack(len(mark)) + mark.encode() for mark in (_ARGUMENTS, _KEYWORDS))]
        if numbered:
            marks += [_NUMBER.pack(_NUMBER_MARK), _TIME.pack(_TIME_MARK)]
        parts = re.split(b"(" + b"|".join(map(re.escape, marks)) + b")", rest)
        self._which = [marks.index(mark) for mark in parts[1::2]]
        if sorted(self._which)[-len(marks) :] != list(range(len(marks))):
            raise ValueError("a task message is not made as it was: a mark is missing, or there twice")
        self._parts = [first, b"", *parts]
        # The table's length without what is shown of the arguments.
        self._length = len(table) - _LONG.size - len(_ARGUMENTS) - len(_KEYWORDS)

    def fill(self, task_id: str, call: EncodedArguments, baozi: Baozi | None) -> bytes:
        """Return all frames of the message.

        Args:
            task_id: the task's id.
            call: the arguments.
            baozi: which message of its order this is, if the pattern's headers tell that.
        """
        body = f"[{', '.join(call.encoded)}, {self._body_end}".encode()
        shown = self._shown(call.arguments)
        keywords_shown = self._shown(call.keywords) if call.keywords else b"{}"
        values = [
            task_id.encode(),
            _LONG.pack(len(shown)) + shown,
            _LONG.pack(len(keywords_shown)) + keywords_shown,
        ]
        if baozi is not None:
            values += [_NUMBER.pack(baozi.number), _TIME.pack(baozi.made_at)]
        parts = self._parts.copy()
        parts[1] = _LONG.pack(self._length + len(shown) + len(keywords_shown))
        parts[3::2] = [values[which] for which in self._which]
        return self._frames.of(b"".join(parts), body)

    def _shown(self, arguments: Sequence[Any] | Mapping[str, Any]) -> bytes:
        shown = repr(arguments)
        # Celery's own way, many times slower, differs where a string has quotes or must be escaped or cut.
        # It also leaves out what is nested deeply, which is shown here.
        if '"' in shown or "\\" in shown or len(shown) > self._longest_shown:
            shown = saferepr(arguments, self._longest_shown)
        return shown.encode(errors="surrogatepass")  # as py-amqp does


def _divided(whole: AnyStr, mark: AnyStr) -> tuple[AnyStr, AnyStr]:
    before, found, after = whole.partition(mark)
    if not found:
        raise ValueError("a task message is not made as it was: a part of it is missing")
    return before, after


class _Recorder:
    """Replaces a channel: keeps the message instead of publishing it."""

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

    def __init__(
        self, base: type[Any], headers: Mapping[str, Any], whose: tuple[str, str] | None = None
    ) -> None:
        """Begin without any.

        Args:
            base: a class of tasks. The messages of a task that has another ``apply_async`` may differ in more
                than a pattern fills in.
            headers: each message has these beside Celery's.
            whose: run and producer, if each message tells in its headers which baozi it is.
        """
        self._base = base
        self._headers = headers
        self._whose = whose
        self._channel: ConfirmedChannel | None = None
        self._made: dict[str, Pattern | None] = {}

    def headers(self, baozi: Baozi | None) -> Mapping[str, Any]:
        """Return the headers of the message with this baozi, beside Celery's."""
        return self._headers if baozi is None else {**self._headers, **baozi.headers}

    def of(self, task: Any, channel: ConfirmedChannel, call: EncodedArguments) -> Pattern | None:
        """Return the pattern of ``task`` on ``channel``; None if ``apply_async`` must send each message.

        It must do so if Celery's publish signals have receivers, if a tracing library has wrapped Celery's
        functions, if this runs inside a task, which would be the new task's parent, if the task or its app
        overrides how a message is made, and if the transport takes no frames.

        Args:
            task: one of Celery's.
            channel: where to publish.
            call: arguments that the task takes.
        """
        if any(signal.receivers for signal in _SIGNALS) or task.app.current_worker_task:
            return None
        if channel is not self._channel:
            self._channel, self._made = channel, {}
        if task.name not in self._made:
            plain = channel.takes_frames and _is_unpatched() and self._same_each_time(task)
            self._made[task.name] = self._pattern(task, channel, call) if plain else None
        return self._made[task.name]

    def _pattern(self, task: Any, channel: ConfirmedChannel, call: EncodedArguments) -> Pattern:
        if self._whose is None:
            return Pattern(task, channel, self._headers, call)
        run, producer = self._whose
        marked = Baozi.model_construct(run=run, producer=producer, number=_NUMBER_MARK, made_at=_TIME_MARK)
        return Pattern(task, channel, self.headers(marked), call)

    def _same_each_time(self, task: Any) -> bool:
        """Return whether the messages of ``task`` differ in nothing but what a pattern fills in."""
        conf = task.app.conf
        app_differs = (
            task.app.__class__.send_task is not Celery.send_task
            or conf.task_send_sent_event
            or conf.task_routes
            or conf.task_compression
        )
        task_differs = (
            task.__class__.apply_async is not self._base.apply_async
            or task.expires
            or getattr(task, "compression", None)
            or task.serializer != "json"
        )
        return not (app_differs or task_differs)


_SIGNALS = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)
#: Functions that tracing libraries wrap.
_STEPS = ((Task, "apply_async"), (Celery, "send_task"), (Producer, "publish"))


def _is_unpatched() -> bool:
    return all(_is_original(where, name) for where, name in _STEPS)


def _is_original(where: type, name: str) -> bool:
    function: Any = getattr(where, name)
    code = getattr(function, "__code__", None)
    own = sys.modules[where.__module__].__file__
    return code is not None and code.co_filename == own and not hasattr(function, "__wrapped__")
