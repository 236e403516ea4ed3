"""Publishes the messages that ``apply_async`` would send, ahead of their confirms, and knows each outcome."""

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
    """One call of a task."""

    task: Any
    call: EncodedArguments
    id: str
    """The Celery task id; a message of Celery's has it as its correlation id."""
    patterns: Patterns
    baozi: Baozi | None = None
    """Which one it is, if its headers tell that."""
    item: Any = None
    """What else the message is about, for the one who put it."""
    options: Mapping[str, Any] | None = None
    """Options for ``apply_async`` beside ours."""

    def publish(self, channel: ConfirmedChannel) -> None:
        """Publish it on ``channel``, with frames from a pattern if the result is the same."""
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
                # The topology is there, and a producer in production may not configure.
                "declare": [],
            },
        )


class TaskPublisher:
    """Puts task messages on the queue. Not thread-safe."""

    def __init__(
        self,
        connect: Callable[[float, int], Connection],
        declare: Callable[[Connection, bool], object],
        window: int,
        timeout: float,
        stop: Event | None = None,
        on_accepted: Callable[[Sequence[TaskMessage]], object] = lambda _: None,
    ) -> None:
        """Open nothing before the first put.

        Args:
            connect: opens a connection within so many seconds; the second argument counts the connections,
                so that of a cluster not always the same node is tried first.
            declare: declares the queues on a connection; the second argument tells whether this publisher
                has declared them before, in which case they must still be there.
            window: how many messages may be on the way at once.
            timeout: seconds that a call may take.
            stop: when it is set, a call that is not done at its present try gives up.
            on_accepted: called with the messages that were accepted, as soon as that is known.
        """
        self._connect = connect
        self._declare = declare
        self._turns = count()
        self._was_there = False
        self.window = window
        """How many may be on the way at once."""
        self._confirmed = ConfirmedPublisher[TaskMessage](self._open, on_accepted, window, timeout, stop)

    def put(self, message: TaskMessage, timeout: float | None = None) -> None:
        """Put one message, and wait until it and all before it are confirmed.

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
        """Send these messages. Wait only for room in the window.

        Raises:
            ValueError: a message with one of these ids is unconfirmed. None is put.
            BaoziError: as :meth:`put`. Its ``unsettled`` lists the task ids of all unconfirmed messages.
        """
        self._confirmed.put_ahead(messages, timeout)

    def put_each_ahead(self, messages: Sequence[TaskMessage]) -> None:
        """Put these like :meth:`put_ahead`, even if an unconfirmed message has the same id.

        Raises:
            BaoziError: as :meth:`put_ahead`.
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
            BaoziError: as :meth:`put_ahead`.
        """
        self._confirmed.flush(timeout)

    def close(self) -> None:
        """Flush, and close the connection, if one is open.

        Raises:
            BaoziError: as :meth:`flush`. The connection is closed in any case.
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
        """Close it. After an error, close it at once."""
        self._confirmed.__exit__(kind, error, trace)
