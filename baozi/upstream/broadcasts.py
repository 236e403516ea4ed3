"""What workers and monitors send to all workers: events and remote control.

Celery does not check these messages. Anybody who may write to the exchanges ``celeryev`` and
``celery.pidbox`` ends all workers with one malformed message: an event that is not JSON or has no type, a
command whose arguments are of a wrong type. A compressed message of some hundred bytes takes gigabytes. After
one with a clock of 64 bits the workers can send nothing more, because AMQP has no larger number.

Here such a message is dropped, with a line in the log. Nothing else is lost: Celery acknowledges these
messages before it reads them.

Upstream: no thread is known.
Checked with: celery 5.7.0, kombu 5.7.0.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isfinite
from typing import Any

from celery.utils.log import get_logger
from celery.worker.consumer.control import Control as CeleryControl
from celery.worker.consumer.gossip import Gossip as CeleryGossip
from celery.worker.control import Panel
from celery.worker.pidbox import Pidbox as CeleryPidbox
from kombu import Consumer

from baozi.amqp.decoding import fault
from baozi.shown import shown
from baozi.upstream.message import UninflatedMessage

logger = get_logger(__name__)

#: The most bytes of a body. The ids of 100,000 revoked tasks need four million.
_LONGEST_BODY = 16_000_000
#: The largest logical clock that is accepted. A worker counts on from it, and AMQP's numbers end at 2**63.
_LARGEST_CLOCK = 2**62
#: The latest time of an event, epoch seconds: for a later one Python has no date.
_LATEST = 2**37
#: The most hours by which a clock differs from UTC.
_LARGEST_OFFSET = 24
#: The most characters of a text, such as a host's name or a routing key: AMQP's short strings have 255 bytes.
_LONGEST_TEXT = 255
#: The most characters of an error in the log.
_LONGEST_ERROR = 200


class Malformed(ValueError):
    """The message is not what a Celery worker or monitor sends."""


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value.encode(errors="replace")) <= _LONGEST_TEXT


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_clock(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_CLOCK


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value < _LATEST


def _is_offset(value: Any) -> bool:
    return _is_number(value) and abs(value) <= _LARGEST_OFFSET


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_scalars(value: object) -> bool:
    return _is_scalar(value) or (isinstance(value, list) and all(map(_is_scalar, value)))


#: The fields of a worker's event that Celery uses, each with its check. It would set others as attributes.
_EVENT: Mapping[str, Callable[[Any], bool]] = {
    "type": _is_text,
    "hostname": _is_text,
    "timestamp": _is_time,
    "utcoffset": _is_offset,
    "pid": _is_number,
    "clock": _is_clock,
    "freq": lambda value: _is_number(value) and value > 0,
    "active": _is_scalar,
    "processed": _is_scalar,
    "loadavg": _is_scalars,
    "sw_ident": _is_scalar,
    "sw_ver": _is_scalar,
    "sw_sys": _is_scalar,
    "id": _is_text,
    "topic": _is_scalar,
    "action": lambda _: True,
    "cver": _is_scalar,
}
#: Those that each event must have, and those of an election's.
_EVENT_NEEDS = {"type", "hostname", "timestamp", "clock"}
_ELECTION_NEEDS = {
    "worker.elect": {"id", "pid", "topic", "action", "cver"},
    "worker.elect.ack": {"id"},
}

#: The fields of a command, each with its check.
_COMMAND: Mapping[str, Callable[[Any], bool]] = {
    "method": _is_text,
    "arguments": lambda value: isinstance(value, dict),
    "destination": lambda value: isinstance(value, str | list) and _is_scalars(value),
    "pattern": _is_text,
    "matcher": _is_text,
    "ticket": _is_text,
    "reply_to": lambda value: (
        isinstance(value, dict) and _is_text(value.get("exchange")) and _is_text(value.get("routing_key"))
    ),
}


def checked_event(message: Any) -> dict[str, Any]:
    """Return the event of a worker that ``message`` contains.

    Raises:
        Malformed: it contains none.
    """
    event = _decoded(message)
    kind = (message.delivery_info or {}).get("routing_key", "")
    known = {name: value for name, value in event.items() if name in _EVENT}
    _check(known, _EVENT, _EVENT_NEEDS | _ELECTION_NEEDS.get(kind, set()))
    return known


def checked_command(message: Any) -> dict[str, Any]:
    """Return the command that ``message`` contains.

    Raises:
        Malformed: it contains none.
    """
    given = _decoded(message)
    # Celery's clients send fields without a value as null.
    command = {name: value for name, value in given.items() if name in _COMMAND and value is not None}
    _check(command, _COMMAND, {"method"})
    clock = message.headers.get("clock")
    if clock is not None and not _is_clock(clock):
        raise Malformed("its clock is out of range")
    _check_arguments(command["method"], command.get("arguments", {}))
    return command


def _check_arguments(method: str, arguments: Mapping[str, Any]) -> None:
    """Check the arguments whose types Celery states for its own command line."""
    described = Panel.meta.get(method)
    for name, kind in (described.args if described and described.args else None) or ():
        value = arguments.get(name)
        fits = _is_number(value) if kind in {int, float} else _is_scalar(value)
        if value is not None and not fits:
            raise Malformed(f"{name!r} is a {type(value).__name__}")
    variadic = described.variadic if described else None
    if variadic and not _is_scalars(arguments.get(variadic)):
        raise Malformed(f"{variadic!r} is neither a text nor a list of texts")


def _decoded(message: Any) -> dict[str, Any]:
    unreadable = fault(message)
    if unreadable:
        raise Malformed(unreadable)
    if message.headers.get("compression"):
        raise Malformed("it is compressed")
    if len(message.body) > _LONGEST_BODY:
        raise Malformed(f"it has {len(message.body)} bytes")
    decoded = message.payload
    if not isinstance(decoded, dict):
        raise Malformed(f"it is a {type(decoded).__name__}, not a table")
    return decoded


def _check(given: Mapping[str, Any], known: Mapping[str, Callable[[Any], bool]], needed: set[str]) -> None:
    missing = sorted(needed - given.keys())
    if missing:
        raise Malformed(f"it has no {missing[0]!r}")
    for name, value in given.items():
        if not known[name](value):
            raise Malformed(f"{name!r} is {_short(repr(value))}")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}…"


def _drop(what: str, error: Exception) -> None:
    logger.error("Dropped %s: %s", what, shown(_short(f"{type(error).__name__}: {error}")))


def _read_unchanged(channel: Any) -> Any:
    """Have the messages of an AMQP ``channel`` not decompressed; return the channel."""
    with suppress(AttributeError):  # in memory, where messages are no bytes
        if channel.connection.client.transport.driver_type == "amqp":
            channel.Message = UninflatedMessage
    return channel


class Gossip(CeleryGossip):
    """Celery's step that listens to other workers' events."""

    def __init__(self, c: Any, **options: Any) -> None:
        """Take the errors of the connection from the worker's consumer ``c``."""
        super().__init__(c, **options)
        self._passed_on = (*c.connection_errors, *c.channel_errors)

    def get_consumers(self, channel: Any) -> list[Consumer]:
        """Return the consumer of the events."""
        consumers: list[Consumer] = super().get_consumers(_read_unchanged(channel))
        return consumers

    def on_message(self, prepare: Callable[[Any], Any], message: Any) -> None:
        """Take an event, or drop it."""
        try:
            message._decoded_cache = checked_event(message)
            super().on_message(prepare, message)
        except self._passed_on:
            raise
        except Exception as error:
            _drop("an event", error)


class Pidbox(CeleryPidbox):
    """Celery's receiver of remote control."""

    def start(self, c: Any) -> None:
        """Start to consume."""
        self.node.channel = _read_unchanged(c.connection.channel())
        self.consumer = self.node.Consumer(on_message=self._on_message)
        self.consumer.consume()

    def _on_message(self, message: Any) -> None:
        try:
            command = checked_command(message)
        except Exception as error:  # a codec raises errors of many kinds
            _drop("a remote control command", error)
            return
        self.on_message(command, message)


class Control(CeleryControl):
    """Celery's step of the remote control."""

    def __init__(self, c: Any, **options: Any) -> None:
        """Use :class:`Pidbox`. Pools of green threads have Celery's own, in a thread of its own."""
        super().__init__(c, **options)
        step: Any = self  # the stubs leave its attributes out
        if not step.is_green:
            step.box = box = Pidbox(c)
            step.start, step.stop, step.shutdown = box.start, box.stop, box.shutdown
