"""Republishes a message that the worker does not execute: as a dead letter, or delayed until its ETA.

A pool process publishes a copy and waits for the confirm. Then the worker's main process acknowledges the
message. So the event loop never waits for a confirm. If a process is killed in between, the message is
redelivered. These functions are not Celery tasks, so that no message can call them to forge dead letters.
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

#: The most characters of a reason, and of the end of a traceback.
_LONGEST_REASON, _LONGEST_TRACEBACK = 1000, 4000
#: Seconds for everything except the broker's answers, on a busy machine.
_MARGIN = 10


class Rejection(NamedTuple):
    """A message to dead-letter, and the reason."""

    body: bytes
    properties: bytes
    routing_key: str
    deliveries: int
    """How many times it has been delivered."""
    reason: str
    traceback: str | None
    consumer: str
    """The worker that dead-letters it."""
    exchange: str
    """The exchange of the dead letters."""


class Failure(NamedTuple):
    """Why a message could not be republished."""

    error: str
    final: bool
    """Whether another attempt would fail too."""


def dead_letter(rejection: Rejection) -> Failure | None:
    """Publish the message as a dead letter. Return the failure, or None. Called in a pool process."""
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
    """Publish a message that arrives in ``queue`` after ``seconds``. Return the failure, or None."""
    original = Original(body, publishable_properties(original_properties(properties)))
    # With the queue's own routing key: the message's key may already be a delayed message's, which is long.
    return _publish(lambda _: original, level_name(MAX_LEVEL), calculate_routing_key(seconds, queue))


def _text(text: str) -> str:
    """Return ``text`` with escapes for characters that UTF-8 cannot encode."""
    return text.encode(errors="backslashreplace").decode()


def _publish(make: Callable[[int | None], Original], exchange: str, routing_key: str) -> Failure | None:
    # Threads and solo pools would treat an exception as the worker's own.
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
    """One message that a pool process republishes. Celery's consumer gives it to the pool like a request."""

    def __init__(
        self,
        consumer: Any,
        message: Any,
        function: Callable[..., Failure | None],
        *arguments: Any,
        on_final: Callable[[str], object] | None = None,
    ) -> None:
        """Prepare to call ``function`` in a pool process, and then to acknowledge ``message``.

        Args:
            consumer: the worker's consumer.
            message: the message to republish.
            function: :func:`dead_letter` or :func:`postpone`.
            arguments: its arguments.
            on_final: called with the error if another attempt would fail too. Default: the message is
                requeued, and the broker dead-letters it at its delivery limit.
        """
        self._consumer = consumer
        self._message = message
        self._function = function
        self._arguments = arguments
        self._on_final = on_final
        self.handed_over = False
        """Whether it was given to a pool process."""

    def execute_using_pool(self, pool: Any) -> None:
        """Republish the message in a process of ``pool``."""
        self.handed_over = True
        pool.apply_async(
            self._function,
            args=self._arguments,
            callback=self._answered,
            error_callback=self._answered,
            timeout=settings().broker_timeout + CONNECT_TIMEOUT + _MARGIN,
        )

    def _answered(self, answer: Any) -> None:
        # The threads pool calls this in another thread.
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
        """Requeue the message, because it could not be given to the pool."""
        self._settle(Failure(str(error), final=False))
