"""The two Celery tasks that record in the ledger that a producer's order was opened again or closed."""

from typing import Any

from baozi.execution import retry_while_ledger_away
from baozi.model import Closing, Opening
from baozi.task import ReliableTask


class OrderTask(ReliableTask):
    """A task without a key. Its function writes to the ledger, and a second delivery changes nothing."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Check the arguments and run the function.

        Raises:
            BadArguments: the message's arguments are invalid. It is dead-lettered.
            NotABaozi: its argument is not an opening or closing of an order. It is dead-lettered.
            Reject: the ledger stayed unavailable. The message returns to the queue.
        """
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        checked, named = self.arguments.checked(args, kwargs)
        return self.run(*checked, **named)


def add(reliable: Any, prefix: str) -> None:
    """Add the two tasks to an app, as ``reliable.open_order`` and ``reliable.close_order``.

    Args:
        reliable: the app's :class:`baozi.reliable.Reliable`.
        prefix: the first part of the tasks' names, such as ``baozi`` for ``baozi.close_order``.
    """

    def open_order(item: Any) -> None:
        """Record that an order is open again.

        Args:
            item: a dictionary with the keys ``run``, ``producer``, ``order``, ``session`` and ``opened_at``.

        Raises:
            NotABaozi: ``item`` is invalid. The message is dead-lettered.
            Reject: the ledger stayed unavailable. The message returns to the queue.
        """
        opening = Opening.parse(item)
        retry_while_ledger_away(lambda: reliable.open_ledger().record_opening(opening))

    def close_order(item: Any) -> None:
        """Record that an order is closed.

        Args:
            item: a dictionary with the keys ``run``, ``producer``, ``accepted``, ``attempted`` and
                ``closed_at``. An order that has an id also has ``order``, ``session`` and ``unknown``.

        Raises:
            NotABaozi: ``item`` is invalid. The message is dead-lettered.
            Reject: the ledger stayed unavailable. The message returns to the queue.
        """
        order = Closing.parse(item)
        retry_while_ledger_away(lambda: reliable.open_ledger().record_order(order))

    for function in (open_order, close_order):
        task = reliable.task(function, name=f"{prefix}.{function.__name__}", base=OrderTask, batch=1)
        setattr(reliable, function.__name__, task)
