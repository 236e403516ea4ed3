"""The baozi's publisher: what ``apply_async`` would send, ahead of the confirms, each accounted for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from threading import Event
from types import TracebackType
from typing import Any, Self

from kombu import Connection

from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.connection import connect
from baozi.amqp.publisher import ConfirmedPublisher
from baozi.model import NO_ORDER, ORDER_HEADER, Baozi, Opening, Order, Tray
from baozi.settings import Settings
from baozi.topology import Topology
from producers.framing import Patterns
from tasks.app import reliable
from tasks.eating import eat, eat_tray


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """One call of a task with a baozi or an order."""

    task: Any
    item: Baozi | Tray | Opening | Order
    id: str
    """The Celery task id; a message of Celery's has it as its correlation id."""
    patterns: Patterns

    def publish(self, channel: ConfirmedChannel) -> None:
        """Publish it on ``channel``: framed by hand where that makes no difference."""
        pattern = self.patterns.of(self.task, channel)
        item = self.item.argument
        if pattern is None:
            # No declare: the topology is there, and a producer in production may not configure.
            self.task.apply_async(
                (item,),
                task_id=self.id,
                headers=self.patterns.headers,
                producer=channel.producer,
                retry=False,
                declare=[],
            )
        else:
            channel.write(pattern.fill(self.id, item))


class Publisher:
    """Puts baozi and orders on the queue. Not to be shared between threads."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        stop: Event | None = None,
        on_accepted: Callable[[Sequence[Baozi]], object] = lambda _: None,
        order_id: str = NO_ORDER,
    ) -> None:
        """Take the ``name`` that the broker's pages show; nothing is opened before the first put.

        Args:
            name: who publishes.
            settings: the queue's capacity and delivery limit, the window, and the time that a call may take.
            stop: when it is set, a call that is not done at its present try gives up.
            on_accepted: called with the baozi that were accepted, as soon as that is known.
            order_id: the order that all baozi belong to. Each message names it in a header, by which the
                ledger tells them from another order's baozi of the same run, producer and number.
        """
        self._name = name
        self._settings = settings
        self._on_accepted = on_accepted
        self._patterns = Patterns({ORDER_HEADER: order_id} if order_id else {})
        self._turns = count()
        self._was_there = False
        # Where a full queue refuses some, those behind them might still find room: one at a time keeps order.
        self.window = settings.window if settings.capacity is None else 1
        """How many may be on the way at once."""
        self._confirmed = ConfirmedPublisher[TaskMessage](
            self._open, self._accept, self.window, settings.broker_timeout, stop
        )

    def put(self, baozi: Baozi, timeout: float | None = None) -> None:
        """Put one baozi; accepted when this returns, as are all before it.

        Like ``Queue.put``: it waits while the queue is full, and raises at ``timeout`` (seconds; default: the
        setting ``broker_timeout``). What raises :class:`BrokerAway` or :class:`BrokerBlocked` may be queued
        all the same; put again, it is the same task, and the ledger counts it once.

        Raises:
            QueueFull: the queue stayed full.
            Unroutable: no queue takes it.
            BrokerAway, BrokerBlocked: not confirmed in time.
            BrokerRefused, NoVirtualHost, NotPermitted, TopologyMismatch: at once; time does not mend them.
        """
        self._confirmed.put(self._message(eat, baozi), timeout)

    def put_ahead(self, tray: Sequence[Baozi], timeout: float | None = None) -> None:
        """Put these, each in a message of its own, and wait only for room in the window.

        Raises:
            ValueError: one of them is under way.
            BaoziError: as :meth:`put`; its ``unsettled`` lists the task ids of all that were put and are not
                confirmed.
        """
        self._confirmed.put_ahead([self._message(eat, baozi) for baozi in tray], timeout)

    def put_trays_ahead(self, trays: Sequence[Tray], timeout: float | None = None) -> None:
        """Put these, each tray in one message; it raises as :meth:`put_ahead` does."""
        self._confirmed.put_ahead([self._message(eat_tray, tray) for tray in trays], timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Return when all that was put is accepted.

        Raises:
            BaoziError: as :meth:`put_ahead`.
        """
        self._confirmed.flush(timeout)

    def open_order(self, opening: Opening, timeout: float | None = None) -> None:
        """Put the message that opens an order again; it raises as :meth:`put` does."""
        self._confirmed.put(self._message(reliable.open_order, opening), timeout)

    def close_order(self, order: Order, timeout: float | None = None) -> None:
        """Put a producer's last message; it raises as :meth:`put` does."""
        self._confirmed.put(self._message(reliable.close_order, order), timeout)

    def close(self) -> None:
        """Flush, and close the connection, if one is open.

        Raises:
            BaoziError: as :meth:`flush`; the connection is closed all the same.
        """
        self._confirmed.close()

    def _message(self, task: Any, item: Baozi | Tray | Opening | Order) -> TaskMessage:
        return TaskMessage(task, item, item.task_id, self._patterns)

    def _accept(self, messages: Sequence[TaskMessage]) -> None:
        accepted: list[Baozi] = []
        for message in messages:
            if isinstance(message.item, Baozi):
                accepted.append(message.item)
            elif isinstance(message.item, Tray):
                accepted += message.item.baozi
        if accepted:
            self._on_accepted(accepted)

    def _open(self, deadline: float) -> ConfirmedChannel:
        left = deadline - time.monotonic()
        # Of a cluster, the node that was of no use is not tried first again.
        connection = connect(f"producer {self._name}", left, turn=next(self._turns))
        return ConfirmedChannel.declared(connection, lambda: self._declare(connection))

    def _declare(self, connection: Connection) -> None:
        topology = Topology.of(self._settings)
        if self._was_there:
            topology.see_that_it_is_there(connection)
        topology.declare(connection)
        self._was_there = True

    def __enter__(self) -> Self:
        """Return the publisher itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; when an error has come, without waiting for anything."""
        self._confirmed.__exit__(kind, error, trace)
