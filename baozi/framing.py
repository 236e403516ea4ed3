"""Makes task messages from a pattern, because Celery takes about 0.3 ms to make each message.

Here Celery makes only one message for each task, with marks in the places where messages differ. Each further
message is a copy in which the marks are replaced.
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

#: Encodes plain JSON. It refuses NaN and infinity, which JSON does not have.
_plain = json.JSONEncoder(allow_nan=False)
#: Encodes also dates, decimal numbers and other types, as Celery does.
_celerys = kombu_json.JSONEncoder(allow_nan=False)


@dataclass(slots=True)
class EncodedArguments:
    """The arguments of one message, and their JSON."""

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    encoded: tuple[str, str]

    @classmethod
    def of(cls, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Self:
        """Encode these positional and named arguments.

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
    """The message of one task, as ``apply_async`` makes it in this process, with marks for what differs."""

    def __init__(
        self, task: Any, channel: ConfirmedChannel, headers: Mapping[str, Any], call: EncodedArguments
    ) -> None:
        """Make the pattern. No message is sent.

        Args:
            task: the Celery task.
            channel: the channel on which the messages will be published.
            headers: the headers in addition to Celery's. Number and time, if present, are the marks.
            call: the arguments of one message, as an example.

        Raises:
            ValueError: a mark is missing or repeated, because Celery makes messages in another way.
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
        """Split the encoded properties at the marks."""
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
        # The length of the header table without the two texts of the arguments (argsrepr, kwargsrepr).
        self._length = len(table) - _LONG.size - len(_ARGUMENTS) - len(_KEYWORDS)

    def fill(self, task_id: str, call: EncodedArguments, baozi: Baozi | None) -> bytes:
        """Return the AMQP frames of one message.

        Args:
            task_id: the Celery task id.
            call: the arguments.
            baozi: the number and the time, if the pattern's headers have their marks.
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
        # Celery's saferepr is many times slower. Its result differs from repr() only if a string has quotes,
        # must be escaped or is too long, and for deeply nested values, which it leaves out.
        if '"' in shown or "\\" in shown or len(shown) > self._longest_shown:
            shown = saferepr(arguments, self._longest_shown)
        return shown.encode(errors="surrogatepass")  # as py-amqp does


def _divided(whole: AnyStr, mark: AnyStr) -> tuple[AnyStr, AnyStr]:
    before, found, after = whole.partition(mark)
    if not found:
        raise ValueError("a task message is not made as it was: a part of it is missing")
    return before, after


class _Recorder:
    """A substitute for a channel. It keeps the message instead of publishing it."""

    message: Message
    way: dict[str, Any]
    """Exchange, routing key, and whether the message is mandatory."""

    def __init__(self, channel: ConfirmedChannel) -> None:
        """Prepare messages in the same way as ``channel``."""
        true: Any = channel.producer.channel
        self.connection = true.connection
        self.prepare_message = true.prepare_message

    def basic_publish(
        self, message: Message, exchange: str, routing_key: str, mandatory: bool, **_waits: Any
    ) -> None:
        """Keep the message, the exchange and the routing key."""
        self.message = message
        self.way = {"exchange": exchange, "routing_key": routing_key, "mandatory": mandatory}


class Patterns:
    """The patterns of the tasks that are published on one channel. Each is made at its first use."""

    def __init__(
        self, base: type[Any], headers: Mapping[str, Any], whose: tuple[str, str] | None = None
    ) -> None:
        """Set what the messages have in common. No pattern is made yet.

        Args:
            base: the class whose ``apply_async`` makes the messages. Tasks that override it get no pattern.
            headers: the headers of each message in addition to Celery's.
            whose: run and producer, if each message has the headers of its baozi.
        """
        self._base = base
        self._headers = headers
        self._whose = whose
        self._channel: ConfirmedChannel | None = None
        self._made: dict[str, Pattern | None] = {}

    def headers(self, baozi: Baozi | None) -> Mapping[str, Any]:
        """Return the headers of the message with this baozi, in addition to Celery's."""
        return self._headers if baozi is None else {**self._headers, **baozi.headers}

    def of(self, task: Any, channel: ConfirmedChannel, call: EncodedArguments) -> Pattern | None:
        """Return the pattern of ``task`` on ``channel``, or None if ``apply_async`` must send each message.

        It must do so if

        - Celery's publish signals have receivers, or a tracing library has wrapped Celery's functions;
        - this runs inside a task, which would be the new task's parent;
        - the task or its app changes how messages are made;
        - the transport is not AMQP.

        Args:
            task: the Celery task.
            channel: the channel on which to publish.
            call: the arguments of one message, as an example.
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
        """Return whether the messages of ``task`` differ only in the places that have marks."""
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
