"""The two tasks whose messages record that a producer's order was opened or closed."""

from typing import Any

from baozi.execution import retry_while_ledger_away
from baozi.model import Closing, Opening
from baozi.task import ReliableTask


class OrderTask(ReliableTask):
    """A task whose function records by itself: what it is told twice changes nothing."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function. It raises what :meth:`ReliableTask.__call__` does, and NotABaozi."""
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        checked, named = self.arguments.checked(args, kwargs)
        return self.run(*checked, **named)


def add(reliable: Any, prefix: str) -> None:
    """Give an app the two tasks, as ``reliable.open_order`` and ``reliable.close_order``.

    Args:
        reliable: the app's :class:`baozi.reliable.Reliable`.
        prefix: what their names begin with.
    """

    def open_order(item: Any) -> None:
        """Open an order again: ``{"run", "producer", "order", "session", "opened_at"}``.

        Raises:
            NotABaozi: ``item`` is no opening; it is dead-lettered.
            Reject: the ledger stayed away; the message goes back to the broker.
        """
        opening = Opening.parse(item)
        retry_while_ledger_away(lambda: reliable.open_ledger().record_opening(opening))

    def close_order(item: Any) -> None:
        """Close one order: ``{"run", "producer", "accepted", "attempted", "closed_at"}``, and its id, session
        and unknown numbers where it has an id.

        Raises:
            NotABaozi: ``item`` is no order; it is dead-lettered.
            Reject: the ledger stayed away; the message goes back to the broker.
        """
        order = Closing.parse(item)
        retry_while_ledger_away(lambda: reliable.open_ledger().record_order(order))

    for function in (open_order, close_order):
        task = reliable.task(function, name=f"{prefix}.{function.__name__}", base=OrderTask)
        setattr(reliable, function.__name__, task)
