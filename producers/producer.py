"""A producer: makes baozi one by one and puts each in its order."""

import time
from collections.abc import Callable
from itertools import islice
from threading import Event as Flag

from baozi.model import Baozi, Tray
from baozi.order import Order
from baozi.settings import Settings
from baozi.task import ReliableTask
from producers.publisher import declarer, opener, window
from tasks.app import app, reliable
from tasks.eating import eat, eat_tray


def order_of(
    settings: Settings,
    run: str,
    producer: str,
    resume: bool = False,
    stop: Flag | None = None,
    on_accepted: Callable[[Baozi], object] = lambda _: None,
) -> Order:
    """Return the order of ``producer`` in ``run``, not opened yet.

    Args:
        settings: the broker's, and the window.
        run: the run.
        producer: the producer.
        resume: whether to go on with an order that is there.
        stop: is set to stop.
        on_accepted: called with each that was accepted.

    Raises:
        UsageError: a name cannot be used.
    """
    return Order(
        app,
        run,
        producer,
        runs=settings.runs,
        connect=opener(producer),
        declare=declarer(settings),
        open_order=reliable.open_order,
        close_order=reliable.close_order,
        base=ReliableTask,
        resume=resume,
        window=window(settings),
        timeout=settings.broker_timeout,
        stop_timeout=settings.stop_timeout,
        stop=stop or Flag(),
        on_accepted=on_accepted,
    )


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
