"""The baozi's publisher: each baozi, tray and order in a message of its own, without a journal."""

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

#: What travels in a message.
Item = Baozi | Tray | Opening | Closing


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
        self._on_accepted = on_accepted
        self._headers = {ORDER_HEADER: order_id} if order_id else {}
        self._patterns: dict[tuple[str, str] | None, Patterns] = {}
        # What the decorator returned looks for its task each time.
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
        """Put one; it raises as :meth:`TaskPublisher.put` does."""
        self._publisher.put(self._message(item), timeout)

    def put_ahead(self, items: Sequence[Item], timeout: float | None = None) -> None:
        """Put these, each in a message of its own; it raises as :meth:`TaskPublisher.put_ahead` does."""
        self._publisher.put_ahead([self._message(item) for item in items], timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Return when all that was put is accepted; it raises as :meth:`TaskPublisher.flush` does."""
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
        """Close it; when an error has come, without waiting for anything."""
        self._publisher.__exit__(kind, error, trace)


_TASKS: dict[type, Any] = {
    Baozi: eat,
    Tray: eat_tray,
    Opening: reliable.open_order,
    Closing: reliable.close_order,
}
