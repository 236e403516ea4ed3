"""The producer's loop: makes baozi and puts them in an order."""

import time
from itertools import islice

from baozi.model import Tray
from baozi.order import Order
from tasks.eating import eat, eat_tray


def produce(order: Order, total: int, interval: float, tray: int = 1) -> None:
    """Make and put baozi until the order has ``total`` of them or is asked to stop.

    Numbers that an earlier session attempted, and that the broker did not accept, are put again. This also
    happens after a stop, so that a closed order has no number with an unknown outcome.

    Args:
        order: an open order.
        total: how many baozi the whole order has; 0 for no end.
        interval: seconds between two messages. If it is not 0, each message is confirmed before the next one
            is made.
        tray: how many baozi one message has.

    Raises:
        JournalAway: the journal cannot be written. Baozi that it does not have are put again by ``--resume``.
        BaoziError: a put failed. The errors are those of :meth:`Order.put`. The order stays open.
    """

    def put(numbers: list[int]) -> None:
        if tray == 1:
            order.put_numbers(numbers, eat, lambda baozi: (baozi.argument,))
            return
        run, producer = order.progress.run, order.progress.producer
        made = Tray(run=run, producer=producer, numbers=numbers, made_at=time.time())
        order.put_together(numbers, eat_tray, made.argument, made.task_id)

    numbers = order.progress.numbers(total)
    # How many baozi are made, written to the journal and sent together.
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
