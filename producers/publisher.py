"""The confirmed publisher: a put returns when the broker has the baozi, or raises by its deadline."""

import time
from collections.abc import Callable
from threading import Event
from types import TracebackType
from typing import Any, Self

from kombu import Producer
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
    stop_when_event_set,
    wait_exponential_jitter,
)
from tenacity.nap import sleep_using_event

from baozi.errors import BrokerAway, QueueFull
from baozi.model import Baozi, Order
from baozi.settings import Settings
from tasks import topology
from tasks.confirms import ConfirmedChannel
from tasks.connection import connect, using
from tasks.eating import close_order, eat

#: Seconds of the first and of the longest pause before a full queue or a broker that is away is tried again.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1


class Publisher:
    """Puts baozi and orders on the queue, one at a time. Not to be shared between threads."""

    def __init__(self, name: str, settings: Settings, stop: Event | None = None) -> None:
        """Take the ``name`` that the broker's pages show; nothing is opened before the first put.

        Args:
            name: who publishes.
            settings: the queue's capacity and delivery limit, and the time that a put may take.
            stop: when it is set, a put that is not accepted at its present try gives up.
        """
        self._name = name
        self._settings = settings
        self._stop = stop or Event()
        self._channel: ConfirmedChannel | None = None

    def put(self, baozi: Baozi, timeout: float | None = None) -> None:
        """Put one baozi; accepted when this returns.

        Like ``Queue.put``: it waits while the queue is full, and raises at ``timeout`` (seconds; default: the
        setting ``broker_timeout``). What raises :class:`BrokerAway` or :class:`BrokerBlocked` may be queued
        all the same; put again, it is the same task, and the ledger counts it once.

        Raises:
            QueueFull: the queue stayed full.
            Unroutable: no queue takes it.
            BrokerAway, BrokerBlocked: not confirmed in time.
            BrokerRefused, NoVirtualHost, NotPermitted, TopologyMismatch: at once; time does not mend them.
        """
        self._send(eat, baozi.model_dump(), baozi.task_id, timeout)

    def close_order(self, order: Order, timeout: float | None = None) -> None:
        """Put a producer's last message; it raises as :meth:`put` does."""
        self._send(close_order, order.model_dump(), order.task_id, timeout)

    def _send(self, task: Any, item: dict[str, Any], task_id: str, timeout: float | None) -> None:
        def send(producer: Producer) -> None:
            # No declare: the topology is there, and a producer in production may not configure.
            task.apply_async((item,), task_id=task_id, producer=producer, retry=False, declare=[])

        limit = timeout or self._settings.broker_timeout
        deadline = time.monotonic() + limit
        tries = Retrying(
            retry=retry_if_exception_type((QueueFull, BrokerAway)),
            wait=wait_exponential_jitter(initial=_FIRST_PAUSE, max=_LONGEST_PAUSE),
            stop=stop_before_delay(limit) | stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        tries(self._try, send, deadline)

    def _try(self, send: Callable[[Producer], None], deadline: float) -> None:
        channel = self._channel or self._open(deadline)
        # Only a channel whose last message was settled is used again.
        self._channel = None
        try:
            channel.publish(send, deadline)
        except QueueFull:
            self._channel = channel
            raise
        except BaseException:
            channel.abort()
            raise
        self._channel = channel

    def _open(self, deadline: float) -> ConfirmedChannel:
        connection = connect(f"producer {self._name}", timeout=max(1, int(deadline - time.monotonic())))
        with using():
            topology.declare(connection, self._settings)
        return ConfirmedChannel(connection)

    def close(self) -> None:
        """Close the connection, if one is open. Nothing is in flight: each put was settled when it ended."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def __enter__(self) -> Self:
        """Return the publisher itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()
