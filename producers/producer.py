"""A producer: makes baozi one by one and puts each in its order."""

import time
from itertools import islice

from baozi.model import Tray
from baozi.order import Order
from tasks.eating import eat, eat_tray


def produce(order: Order, total: int, interval: float, tray: int = 1) -> None:
    """Make and put baozi until the order has ``total`` of them or is told to stop.

    What had been attempted in an earlier session and not accepted is put again, under its number. That is
    done after a stop too, so that a closed order has no number whose outcome is unknown.

    Args:
        order: an open order.
        total: baozi in the whole order, 0 for no end.
        interval: seconds between two messages; each is then confirmed before the next is made.
        tray: baozi in one message. What is lost with a message, or comes again, is then a tray of them.

    Raises:
        JournalAway: the journal cannot be written; what it does not tell is put again by ``--resume``.
        BaoziError: a put failed, as :meth:`Order.put` says. The order is left open, to be resumed.
    """

    def put(numbers: list[int]) -> None:
        if tray == 1:
            order.put_numbers(numbers, eat, lambda baozi: (baozi.argument,))
            return
        run, producer = order.progress.run, order.progress.producer
        made = Tray(run=run, producer=producer, numbers=numbers, made_at=time.time())
        order.put_together(numbers, eat_tray, made.argument, made.task_id)

    numbers = order.progress.numbers(total)
    # As many as are made, written down and sent at once.
    size = tray if tray > 1 or interval else max(1, order.window // 10)
    while not order.stopping and (made := list(islice(numbers, size))):
        put(made)
        if interval:
            order.flush()
            if order.progress.accepted != total:
                order.pause(interval)
    order.flush()
    unknown = iter(order.progress.unknown())
    while made := list(islice(unknown, size)):
        put(made)
    order.flush()
