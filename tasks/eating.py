"""The work itself: ``tasks.eat`` eats a baozi, ``tasks.close_order`` closes a producer's order."""

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any, TypeVar

from celery import Task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
)

from baozi.errors import LedgerAway
from baozi.journal import Event, WorkerJournal
from baozi.ledger import Ledger
from baozi.ledger_engine import PATIENCE
from baozi.lines import say
from baozi.model import ORDER_HEADER, Baozi, Opening, Order, Tray, order_of
from baozi.pauses import growing
from baozi.settings import settings
from baozi.task import ReliableTask
from baozi.worker.batches import Together
from tasks.app import app

logger = get_task_logger(__name__)
Result = TypeVar("Result")

#: The names of the tasks that eat one baozi, and a producer's tray of them.
EAT, EAT_TRAY = "tasks.eat", "tasks.eat_tray"

#: Seconds of the first and of the longest pause between two tries of the ledger.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5


class BaoziTask(ReliableTask):
    """A task that eats, or notes what a producer tells of its order."""

    def done_together_by(self) -> Together | None:
        """Return what does several messages of this task at once, if something does."""
        # A producer's tray that takes time is done bit by bit.
        if self.name != EAT and (self.name != EAT_TRAY or settings().eat_seconds):
            return None
        from tasks.eating_together import eat_together  # noqa: PLC0415  # which knows this module

        return eat_together


@app.task(bind=True, base=BaoziTask, name=EAT)
def eat(self: Task[Any, Any], item: dict[str, Any]) -> None:
    """Eat one baozi: ``{"run", "producer", "number", "made_at"}``. Delivered twice, it is eaten once.

    Raises:
        NotABaozi: ``item`` is none, or the header ``baozi-order`` is no order's id; it is buried.
        NameInUse: another order of its run and producer has its number; it is buried.
        Reject: the ledger stayed away; the baozi is given back to the broker.
    """
    baozi, order_id = Baozi.parse(item), _order_id(self)
    consumer, _, machine = (self.request.hostname or socket.gethostname()).partition("@")
    if _redelivered(self) and _patiently(lambda: ledger().record_redelivery(baozi, order_id)):
        return
    note(consumer, Event.STARTED, [baozi])
    time.sleep(settings().eat_seconds)
    if _patiently(lambda: ledger().record_eaten(baozi, consumer, machine, time.time(), order_id)):
        tell_of_eaten(consumer, [baozi])


@app.task(bind=True, base=BaoziTask, name=EAT_TRAY)
def eat_tray(self: Task[Any, Any], item: dict[str, Any]) -> None:
    """Eat a producer's tray: ``{"run", "producer", "numbers", "made_at"}``.

    What takes time to eat is in the ledger one by one, so that who is killed in the midst of a tray leaves
    those done there; the whole of it is delivered again, and each is counted once.

    Raises:
        NotABaozi: ``item`` is no tray, or the header ``baozi-order`` is no order's id; it is buried.
        NameInUse: another order of its run and producer has the number of some; it is buried.
        Reject: the ledger stayed away; the tray is given back to the broker.
    """
    tray, order_id = Tray.parse(item).baozi, _order_id(self)
    consumer, _, machine = (self.request.hostname or socket.gethostname()).partition("@")
    seconds = settings().eat_seconds
    for part in [[baozi] for baozi in tray] if seconds else [tray]:
        if (
            seconds
            and _redelivered(self)
            and _patiently(partial(ledger().record_redelivery, part[0], order_id))
        ):
            continue
        note(consumer, Event.STARTED, part)
        time.sleep(seconds * len(part))
        record = partial(
            ledger().record_eaten_many, part, consumer, machine, time.time(), [order_id] * len(part)
        )
        tell_of_eaten(consumer, _patiently(record))


@app.task(base=BaoziTask, name="tasks.open_order")
def open_order(item: dict[str, Any]) -> None:
    """Open an order again: ``{"run", "producer", "order", "session", "opened_at"}``.

    Raises:
        NotABaozi: ``item`` is no opening; it is buried.
        Reject: the ledger stayed away; the message is given back to the broker.
    """
    opening = Opening.parse(item)
    _patiently(lambda: ledger().record_opening(opening))


@app.task(base=BaoziTask, name="tasks.close_order")
def close_order(item: dict[str, Any]) -> None:
    """Close one order: ``{"run", "producer", "accepted", "attempted", "closed_at"}``, and its id, session and
    unknown numbers where it has an id.

    Raises:
        NotABaozi: ``item`` is no order; it is buried.
        Reject: the ledger stayed away; the message is given back to the broker.
    """
    order = Order.parse(item)
    _patiently(lambda: ledger().record_order(order))


@cache
def ledger() -> Ledger:
    """Return this process's ledger; the main process never opens it, so no child inherits an open one."""
    return Ledger(settings().ledger, min(PATIENCE, settings().ledger_timeout))


@cache
def journal(consumer: str) -> WorkerJournal | None:
    """Return this process's journal where one is asked for; processes of one consumer append to one file."""
    folder = settings().journal
    return WorkerJournal(folder / "consumer" / f"{consumer}.journal") if folder else None


def _order_id(task: Task[Any, Any]) -> str:
    return order_of(task.request.get(ORDER_HEADER))


def _redelivered(task: Task[Any, Any]) -> bool:
    return bool((task.request.delivery_info or {}).get("redelivered", False))


def note(consumer: str, event: Event, tray: Sequence[Baozi]) -> None:
    """Write down, where a journal is asked for, that ``event`` befell all of ``tray``."""
    own = journal(consumer)
    if own is not None and tray:
        own.write(event, *(baozi.id for baozi in tray))


def tell_of_eaten(consumer: str, tray: Sequence[Baozi]) -> None:
    """Write down and print that ``consumer`` ate ``tray``. It is in the ledger: nothing here is an error.

    Neither is the time limit, should it come now.
    """
    with suppress(Exception):
        note(consumer, Event.EATEN, tray)
        if tray:
            say("\n".join(baozi.eaten_line(consumer) for baozi in tray))


def _patiently(do: Callable[[], Result]) -> Result:
    """Try until the ledger is there: to move the baozi on would only move the whole queue through the broker.

    Raises:
        Reject: it was away for ``ledger_timeout`` seconds, or the time limit came, after which it is not
            known what is committed. The message goes back to the broker, and the ledger says when it
            comes again.
    """
    tries = Retrying(
        retry=retry_if_exception_type(LedgerAway),
        wait=growing(_FIRST_PAUSE, _LONGEST_PAUSE),
        stop=stop_before_delay(settings().ledger_timeout),
        before_sleep=_say_what_is_awaited,
        reraise=True,
    )
    try:
        return tries(do)
    except (LedgerAway, SoftTimeLimitExceeded) as error:
        logger.warning("%s The message goes back to the queue.", error)
        raise Reject(error, requeue=True) from error


def _say_what_is_awaited(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0
    logger.warning("%s Trying again in %.1f s.", error, pause)
