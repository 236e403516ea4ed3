"""What leaves the queue without being eaten: to the dead letters with its reason, or to wait for its ETA.

A pool process publishes a copy, confirmed, and only then does the worker's main process acknowledge the
message. So the event loop waits for no confirm, and a process that is killed in between loses nothing: the
message is delivered again. These functions are no tasks: a message that names a task must not be able to
forge dead letters.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from celery.utils.log import get_logger
from kombu import Producer
from kombu.transport.native_delayed_delivery import MAX_LEVEL, calculate_routing_key, level_name

from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.connection import CONNECT_TIMEOUT, connect
from baozi.dead_letters.letter import (
    CONSUMER,
    DELIVERIES,
    DIED_AT,
    REASON,
    TRACEBACK,
    Original,
    dead_lettered,
    original_properties,
    publish_unchanged,
    publishable_properties,
)
from baozi.errors import BrokerError, NotPermitted, PutRefused, Unroutable
from baozi.reliable import of_worker
from baozi.settings import settings

logger = get_logger(__name__)

#: Characters of a reason, and of the end of a traceback.
_LONGEST_REASON, _LONGEST_TRACEBACK = 1000, 4000
#: Seconds for all else than the broker's answers, on a busy machine.
_MARGIN = 10


class Rejection(NamedTuple):
    """A message that is to be dead-lettered, and why."""

    body: bytes
    properties: bytes
    routing_key: str
    deliveries: int
    """How often it has been delivered."""
    reason: str
    traceback: str | None
    consumer: str
    """The worker that dead-letters it."""
    exchange: str
    """Of the dead letters."""


class Failure(NamedTuple):
    """Why a message could not be sent on."""

    error: str
    final: bool
    """Whether it would fail again."""


def dead_letter(rejection: Rejection) -> Failure | None:
    """Publish the message to the dead letters; return why that failed, or None. Called in a pool process."""
    facts: dict[str, Any] = {
        REASON: _text(rejection.reason[:_LONGEST_REASON]),
        CONSUMER: rejection.consumer,
        DIED_AT: time.time(),
        DELIVERIES: rejection.deliveries,
    }
    if rejection.traceback:
        facts[TRACEBACK] = _text(rejection.traceback[-_LONGEST_TRACEBACK:])
    original = Original(rejection.body, original_properties(rejection.properties))
    return _publish(
        lambda frame_max: dead_lettered(original, facts, frame_max), rejection.exchange, rejection.routing_key
    )


def postpone(body: bytes, properties: bytes, seconds: int, queue: str) -> Failure | None:
    """Publish a message that arrives in ``queue`` after ``seconds``; return why that failed, or None."""
    original = Original(body, publishable_properties(original_properties(properties)))
    # By the queue's own key: the one that it came with may be a delayed message's already, and long.
    return _publish(lambda _: original, level_name(MAX_LEVEL), calculate_routing_key(seconds, queue))


def _text(text: str) -> str:
    """Return ``text`` as UTF-8 can carry it."""
    return text.encode(errors="backslashreplace").decode()


def _publish(make: Callable[[int | None], Original], exchange: str, routing_key: str) -> Failure | None:
    # Threads and solo pools take an exception for the worker's own.
    try:
        channel = ConfirmedChannel(connect("burial", url=of_worker().broker))
        try:
            message = make(channel.frame_max if channel.takes_frames else None)

            def send(producer: Producer) -> None:
                publish_unchanged(producer, message, exchange, routing_key)

            channel.publish(send, deadline=time.monotonic() + settings().broker_timeout)
        finally:
            channel.close()
    except (Unroutable, NotPermitted) as error:
        return Failure(str(error), final=True)
    except (BrokerError, PutRefused) as error:
        return Failure(str(error), final=False)
    except Exception as error:
        logger.exception("A message could not be sent on.")
        return Failure(f"{type(error).__name__}: {error}", final=False)
    return None


class Republication:
    """One message on its way out of the queue. Celery's consumer hands it over as it does a request."""

    def __init__(
        self,
        consumer: Any,
        message: Any,
        function: Callable[..., Failure | None],
        *arguments: Any,
        on_final: Callable[[str], object] | None = None,
    ) -> None:
        """Prepare to call ``function`` with ``arguments`` in a pool process, and then to settle ``message``.

        Args:
            consumer: the worker's.
            message: the one that is sent on.
            function: :func:`dead_letter` or :func:`postpone`.
            arguments: its arguments.
            on_final: called with the error if it would fail again; default: the message is given back, and
                the broker dead-letters it at its delivery limit.
        """
        self._consumer = consumer
        self._message = message
        self._function = function
        self._arguments = arguments
        self._on_final = on_final
        self.handed_over = False
        """Whether a pool process has it."""

    def execute_using_pool(self, pool: Any) -> None:
        """Have a process of ``pool`` send it on."""
        self.handed_over = True
        pool.apply_async(
            self._function,
            args=self._arguments,
            callback=self._answered,
            error_callback=self._answered,
            timeout=settings().broker_timeout + CONNECT_TIMEOUT + _MARGIN,
        )

    def _answered(self, answer: Any) -> None:
        # In the threads pool this is another thread.
        self._consumer.call_soon(self._settle, answer)

    def _settle(self, answer: Any) -> None:
        self._consumer.republications.discard(self)
        if answer is None:
            self._message.ack_log_error(logger, self._consumer.connection_errors)
        elif isinstance(answer, Failure) and answer.final and self._on_final:
            self._on_final(answer.error)
        else:
            logger.error("Could not send on a message: %s", answer)
            self._message.reject_log_error(logger, self._consumer.connection_errors, requeue=True)

    def fail(self, error: Exception) -> None:
        """Give the message back: it could not be handed over."""
        self._settle(Failure(str(error), final=False))
