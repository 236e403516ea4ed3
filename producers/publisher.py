"""Publishes baozi, trays and order messages without a journal, for benchmarks, comparisons and tests."""

from collections.abc import Callable, Sequence
from threading import Event
from types import TracebackType
from typing import Any, Self

from baozi.amqp.connection import connect
from baozi.framing import EncodedArguments, Patterns
from baozi.model import NO_ORDER, ORDER_HEADER, Baozi, Closing, Opening, Tray
from baozi.settings import Settings
from baozi.task import ReliableTask
from baozi.task_publisher import TaskMessage, TaskPublisher
from baozi.topology import Topology
from tasks.app import reliable
from tasks.eating import eat, eat_tray

#: What one message can contain.
Item = Baozi | Tray | Opening | Closing


class Publisher:
    """Puts baozi, trays and order messages on the queue. Not thread-safe."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        stop: Event | None = None,
        on_accepted: Callable[[Sequence[Baozi]], object] = lambda _: None,
        order_id: str = NO_ORDER,
    ) -> None:
        """Create the publisher. The first put opens the connection.

        Args:
            name: the producer's name. RabbitMQ shows it as the name of the connection.
            settings: the queue, its capacity and delivery limit, the window, and the timeout of a call.
            stop: an event. When it is set, a call does not retry after its current attempt.
            on_accepted: called with the baozi that the broker has accepted, as soon as that is known.
            order_id: the id of the order to which all baozi belong. It is sent as a header, so that the
                ledger can distinguish orders with the same run and producer.
        """
        self._on_accepted = on_accepted
        self._headers = {ORDER_HEADER: order_id} if order_id else {}
        self._patterns: dict[tuple[str, str] | None, Patterns] = {}
        # The tasks themselves: the proxy that Celery's decorator returns would look its task up at each use.
        self._tasks = {kind: task.app.tasks[task.name] for kind, task in _TASKS.items()}
        topology, timeout = Topology.of(settings), settings.broker_timeout
        self._publisher = TaskPublisher(
            lambda left, first_node: connect(f"producer {name}", left, first_node=first_node),
            topology.declare_for_producer,
            topology.window(settings.window),
            timeout,
            stop,
            self._accept,
        )

    def put(self, item: Item, timeout: float | None = None) -> None:
        """Put one item and wait for its confirm. The errors are those of :meth:`TaskPublisher.put`."""
        self._publisher.put(self._message(item), timeout)

    def put_ahead(self, items: Sequence[Item], timeout: float | None = None) -> None:
        """Send each item in its own message. The errors are those of :meth:`TaskPublisher.put_ahead`."""
        self._publisher.put_ahead([self._message(item) for item in items], timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all items are confirmed. The errors are those of :meth:`TaskPublisher.put_ahead`."""
        self._publisher.flush(timeout)

    def _message(self, item: Item) -> TaskMessage:
        task: Any = self._tasks[type(item)]
        baozi = item if isinstance(item, Baozi) else None
        whose = (item.run, item.producer) if baozi else None
        patterns = self._patterns.get(whose)
        if patterns is None:
            patterns = self._patterns[whose] = Patterns(ReliableTask, self._headers, whose)
        return TaskMessage(
            task, EncodedArguments.of((item.argument,), {}), item.task_id, patterns, baozi, item
        )

    def _accept(self, messages: Sequence[TaskMessage]) -> None:
        accepted: list[Baozi] = []
        for message in messages:
            if isinstance(message.item, Baozi):
                accepted.append(message.item)
            elif isinstance(message.item, Tray):
                accepted += message.item.baozi
        if accepted:
            self._on_accepted(accepted)

    def __enter__(self) -> Self:
        """Return the publisher itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the publisher. If the block raised, close the connection without flushing."""
        self._publisher.__exit__(kind, error, trace)


_TASKS: dict[type, Any] = {
    Baozi: eat,
    Tray: eat_tray,
    Opening: reliable.open_order,
    Closing: reliable.close_order,
}
