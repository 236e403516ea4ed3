"""Publishes Celery task messages with confirms: many may be unconfirmed, and the outcome of each is known."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from threading import Event
from types import TracebackType
from typing import Any, Self

from kombu import Connection

from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.publisher import ConfirmedPublisher
from baozi.framing import EncodedArguments, Patterns
from baozi.model import Baozi


@dataclass(slots=True)
class TaskMessage:
    """One message: a call of a Celery task."""

    task: Any
    """The Celery task."""
    call: EncodedArguments
    """The arguments of the call."""
    id: str
    """The Celery task id. It is also the message's correlation id."""
    patterns: Patterns
    """The patterns of all messages of the same kind."""
    baozi: Baozi | None = None
    """The baozi, if the message's headers identify it."""
    item: Any = None
    """Any object of the caller. It is not sent; ``on_accepted`` can use it."""
    options: Mapping[str, Any] | None = None
    """Further options for ``apply_async``."""

    def publish(self, channel: ConfirmedChannel) -> None:
        """Publish the message on ``channel``, from a pattern if that gives the same message."""
        pattern = None if self.options else self.patterns.of(self.task, channel, self.call)
        if pattern is not None:
            channel.write(pattern.fill(self.id, self.call, self.baozi))
            return
        options = dict(self.options or {})
        headers = {**(options.get("headers") or {}), **self.patterns.headers(self.baozi)}
        self.task.apply_async(
            self.call.arguments,
            self.call.keywords,
            **options
            | {
                "task_id": self.id,
                "headers": headers,
                "producer": channel.producer,
                "mandatory": True,
                "retry": False,
                # The queues exist, and the producer's user may not have the permission to declare.
                "declare": [],
            },
        )


class TaskPublisher:
    """Puts task messages on the queue over one connection, and reconnects if it is lost. Not thread-safe."""

    def __init__(
        self,
        connect: Callable[[float, int], Connection],
        declare: Callable[[Connection, bool], object],
        window: int,
        timeout: float,
        stop: Event | None = None,
        on_accepted: Callable[[Sequence[TaskMessage]], object] = lambda _: None,
    ) -> None:
        """Create the publisher. The first put opens the connection.

        Args:
            connect: opens a connection. Its arguments are the timeout in seconds and the number of
                connections that were opened before, so that another node of a cluster is tried first.
            declare: declares the queues on a connection. Its second argument is whether this publisher has
                declared them before. Then they must still exist.
            window: the largest number of unconfirmed messages.
            timeout: seconds that a call may take.
            stop: an event. When it is set, a call does not retry after its current attempt.
            on_accepted: called with the messages that the broker has accepted, as soon as that is known.
        """
        self._connect = connect
        self._declare = declare
        self._turns = count()
        self._was_there = False
        self.window = window
        """The largest number of unconfirmed messages."""
        self._confirmed = ConfirmedPublisher[TaskMessage](self._open, on_accepted, window, timeout, stop)

    def put(self, message: TaskMessage, timeout: float | None = None) -> None:
        """Put one message. Wait until the broker has confirmed it and all messages before it.

        Like ``Queue.put`` it waits while the queue is full, for at most ``timeout`` seconds. After
        :class:`BrokerAway` or :class:`BrokerBlocked` the message may be queued. If it is put again, it is the
        same task, and the ledger counts it once.

        Raises:
            ValueError: a message with its id is unconfirmed.
            QueueFull: the queue stayed full.
            Unroutable: no queue accepts it.
            BrokerAway, BrokerBlocked: not confirmed in time.
            BrokerRefused, NoVirtualHost, NotPermitted, TopologyMismatch: at once, because a retry cannot
                help.
        """
        self._confirmed.put(message, timeout)

    def put_ahead(self, messages: Sequence[TaskMessage], timeout: float | None = None) -> None:
        """Send these messages. Wait only until the window has room.

        Raises:
            ValueError: a message with one of these ids is unconfirmed. Nothing is sent.
            BaoziError: one of the errors of :meth:`put`. Its ``unsettled`` has the task ids of all
                unconfirmed messages.
        """
        self._confirmed.put_ahead(messages, timeout)

    def put_each_ahead(self, messages: Sequence[TaskMessage]) -> None:
        """Send these messages, also if an unconfirmed message has the same id: then wait for that one first.

        Raises:
            BaoziError: the errors of :meth:`put_ahead`.
        """
        try:
            self.put_ahead(messages)
        except ValueError:
            for message in messages:
                self.flush()
                self.put_ahead([message])

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the broker has confirmed all messages.

        Raises:
            BaoziError: the errors of :meth:`put_ahead`.
        """
        self._confirmed.flush(timeout)

    def close(self) -> None:
        """Flush, and close the connection if it is open.

        Raises:
            BaoziError: the errors of :meth:`put_ahead`. The connection is closed in any case.
        """
        self._confirmed.close()

    def _open(self, deadline: float) -> ConfirmedChannel:
        connection = self._connect(deadline - time.monotonic(), next(self._turns))
        return ConfirmedChannel.declared(connection, lambda: self._declare_on(connection))

    def _declare_on(self, connection: Connection) -> None:
        self._declare(connection, self._was_there)
        self._was_there = True

    def __enter__(self) -> Self:
        """Return the publisher itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the publisher. If the block raised, close the connection without flushing."""
        self._confirmed.__exit__(kind, error, trace)
