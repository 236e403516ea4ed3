"""A program that puts an order and may kill itself: ``python -m tests.integration.ordering COUNT [WHERE]``.

``WHERE`` is a moment of :data:`MOMENTS` and how often it must have come, as ``before-attempted:3``.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from threading import Event as Flag
from typing import Any

from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.connection import connect
from baozi.journal import Journal
from baozi.model import Baozi
from baozi.order import Order
from baozi.settings import Settings, settings
from baozi.task import ReliableTask
from baozi.task_publisher import TaskMessage
from baozi.topology import Topology
from tasks.app import app, reliable
from tasks.eating import eat

RUN, NAME = "r", "import-7"
#: Messages that one call puts.
EACH = 3

Moment = tuple[type, str, Callable[..., bool]]


def order_of(
    settings: Settings,
    run: str,
    producer: str,
    resume: bool = False,
    stop: Flag | None = None,
    on_accepted: Callable[[Baozi], object] = lambda _: None,
) -> Order:
    """Return the order of ``producer`` in ``run``, not opened yet, with other settings than this process has.

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
        connect=lambda left, first_node: connect(f"producer {producer}", left, first_node=first_node),
        declare=Topology.of(settings).declare_for_producer,
        open_order=reliable.open_order,
        close_order=reliable.close_order,
        base=ReliableTask,
        resume=resume,
        window=Topology.of(settings).window(settings.window),
        timeout=settings.broker_timeout,
        stop_timeout=settings.stop_timeout,
        stop=stop or Flag(),
        on_accepted=on_accepted,
    )


def _journal(event: str) -> Moment:
    return Journal, "write", lambda _self, written, *_: str(written) == event


def _any(*_: object) -> bool:
    return True


def _about(task: str) -> Callable[..., bool]:
    return lambda message, *_: message.task.name == task


#: What is done at each moment: the class, its method, and whether a call is meant.
MOMENTS: dict[str, Moment] = {
    "opened": _journal("opened"),
    "body": _journal("body"),
    "attempted": _journal("attempted"),
    "publish": (TaskMessage, "publish", _about("tasks.eat")),
    "flush": (ConfirmedChannel, "flush", _any),
    "confirm": (ConfirmedChannel, "wait_for_confirms", _any),
    "note": (Order, "_accept", _any),
    "accepted": _journal("accepted"),
    "closing": (TaskMessage, "publish", _about("tasks.close_order")),
    "closed": _journal("closed"),
}


def kill_at(where: str) -> None:
    """Have this process killed before or after the so-manieth call of a moment."""
    when, _, rest = where.partition("-")
    moment, _, times = rest.partition(":")
    owner, name, meant = MOMENTS[moment]
    original = getattr(owner, name)
    left = int(times)

    def killing(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= meant(*arguments)
        now = meant(*arguments) and left == 0
        if now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killing)


def row(number: int) -> Any:
    return eat.s({"run": RUN, "producer": NAME, "number": number, "made_at": 1.0})


def main() -> None:
    count = int(sys.argv[1])
    for where in sys.argv[2:]:
        kill_at(where)
    with order_of(settings(), RUN, NAME, resume=True) as order:
        for start in range(0, count, EACH):
            order.put(*(row(number) for number in range(start, min(count, start + EACH))))
            order.flush()
    print(json.dumps({"accepted": order.progress.accepted}))


if __name__ == "__main__":
    main()
