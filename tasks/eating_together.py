"""What a pool process makes of a tray: all that is plainly a baozi is eaten in one transaction."""

import json
import time
from contextlib import suppress
from itertools import chain
from typing import Any

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_logger

from baozi.errors import LedgerAway, NameInUse, NotABaozi
from baozi.journal import Event
from baozi.model import Baozi, Tray, order_of
from baozi.settings import settings
from baozi.worker.batches import Answer
from tasks.eating import ledger, note, tell_of_eaten

logger = get_logger(__name__)

#: Celery's signals around a task. Who listens to one of them gets it from Celery itself.
_SIGNALS = (
    signals.task_prerun,
    signals.task_postrun,
    signals.task_success,
    signals.task_failure,
    signals.task_retry,
    signals.task_rejected,
    signals.task_internal_error,
)

#: What a Celery client embeds: what is to follow the task, if it has any value.
_EMBEDDED = {"callbacks", "errbacks", "chain", "chord"}


def eat_together(hostname: str, bodies: list[bytes | str], orders: list[Any]) -> Answer:
    """Eat the baozi in ``bodies``, as the messages brought them, for the consumer that ``hostname`` names.

    ``orders`` has the value of each message's header ``baozi-order``, or None.

    Never raises an exception: solo and threads pools would take that for the worker's own.
    """
    everything = list(range(len(bodies)))
    if any(signal.receivers for signal in _SIGNALS):
        return Answer(everything, listened_to=True)
    try:
        tray = {place: meal for place in everything if (meal := _plain_baozi(bodies[place], orders[place]))}
        if tray:
            _eat(hostname, list(chain.from_iterable(tray.values())))
        return Answer([place for place in everything if place not in tray])
    except (LedgerAway, NameInUse) as error:
        logger.warning("%s Trying again one by one.", error)
    except SoftTimeLimitExceeded:
        logger.warning("A tray took too long: trying again one by one.")
    except Exception:
        logger.exception("A tray was not eaten: trying again one by one.")
    return Answer(everything)


def _plain_baozi(body: bytes | str, order: Any) -> list[tuple[Baozi, str]]:
    """The baozi in ``body``, one or a producer's tray, each with its order, if there is nothing else.

    Neither another argument nor a callback.
    """
    with suppress(ValueError, TypeError, AttributeError, RecursionError, NotABaozi):
        (item,), kwargs, embed = json.loads(body)
        if not kwargs and embed.keys() <= _EMBEDDED and not any(embed.values()):
            order_id = order_of(order)
            made = Tray.parse(item).baozi if "numbers" in item else [Baozi.parse(item)]
            return [(baozi, order_id) for baozi in made]
    return []


def _eat(hostname: str, meal: list[tuple[Baozi, str]]) -> None:
    consumer, _, machine = hostname.partition("@")
    tray, order_ids = [baozi for baozi, _ in meal], [order_id for _, order_id in meal]
    note(consumer, Event.STARTED, tray)
    time.sleep(settings().eat_seconds * len(tray))
    new = ledger().record_eaten_many(tray, consumer, machine, time.time(), order_ids)
    tell_of_eaten(consumer, new)
