"""The course's two tasks: ``tasks.eat`` eats one baozi, and ``tasks.eat_tray`` eats a producer's tray."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from celery import Task

from baozi.execution import Work
from baozi.journal import Event, WorkerJournal
from baozi.lines import say
from baozi.model import ORDER_HEADER, Baozi, Tray, order_of
from baozi.recording import Call
from baozi.settings import settings
from baozi.task import ReliableTask
from tasks.app import reliable

#: The names of the two tasks.
EAT, EAT_TRAY = "tasks.eat", "tasks.eat_tray"


class Eating(ReliableTask):
    """A task that finds run, producer and number in the message's argument, not in its headers.

    The messages of all releases have them there.
    """

    def identity(self, arguments: Mapping[str, Any], _header: Callable[[str], Any]) -> Baozi:
        """Return the baozi in the message's argument.

        Raises:
            NotABaozi: the argument is not a baozi.
        """
        return Baozi.parse(arguments["item"])

    def on_recorded(self, works: Sequence[Work], consumer: str) -> None:
        """Write the eaten baozi to the journal, and print the course's line for each. An error is ignored."""
        eaten = [baozi for work in works if (baozi := work.call.baozi) is not None]
        with suppress(Exception):
            note(consumer, Event.EATEN, eaten)
        say("\n".join(baozi.eaten_line(consumer) for baozi in eaten))


def _key(item: dict[str, Any]) -> str:
    return f"{item['run']}/{item['producer']}/{item['number']}"


@reliable.task(name=EAT, base=Eating, key=_key, bind=True, batch=lambda: settings().tray)
def eat(self: Task[Any, Any], item: Any) -> None:
    """Eat one baozi. If its message is delivered twice, it is eaten once.

    Args:
        item: a dictionary with the keys ``run``, ``producer``, ``number`` and ``made_at``.
    """
    if settings().journal:
        consumer, _, _ = (self.request.hostname or "").partition("@")
        note(consumer, Event.STARTED, [Baozi.parse(item)])
    if settings().eat_seconds:  # sleep(0) would take 60 µs
        time.sleep(settings().eat_seconds)


class EatingTray(Eating):
    """A task whose message is executed as several executions of ``tasks.eat``."""

    def works(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], _task_id: str, header: Callable[[str], Any]
    ) -> list[Work]:
        """Return one execution of ``tasks.eat`` for each baozi on the tray.

        Raises:
            BadArguments: the message does not have exactly one argument.
            NotABaozi: the argument is not a tray, or the header ``baozi-order`` is not an order id.
        """
        _, named = self.arguments.checked(args, kwargs)
        order_id = order_of(header(ORDER_HEADER))
        return [
            Work(eat, Call(EAT, baozi.id, baozi, order_id), (), {"item": baozi.argument})
            for baozi in Tray.parse(named["item"]).baozi
        ]


@reliable.task(name=EAT_TRAY, base=EatingTray, batch=lambda: settings().tray)
def eat_tray(item: Any) -> None:
    """Eat the baozi of a producer's tray.

    Args:
        item: a dictionary with the keys ``run``, ``producer``, ``numbers`` and ``made_at``.
    """
    for baozi in Tray.parse(item).baozi:
        eat(baozi.argument)


@cache
def journal(consumer: str) -> WorkerJournal | None:
    """Return the consumer's journal, or None if the setting ``BAOZI_JOURNAL`` is not set."""
    folder = settings().journal
    return WorkerJournal(folder / "consumer" / f"{consumer}.journal") if folder else None


def note(consumer: str, event: Event, baozi: Sequence[Baozi]) -> None:
    """Write ``event`` of each baozi to the consumer's journal, if there is one."""
    own = journal(consumer)
    if own is not None and baozi:
        own.write(event, *(one.id for one in baozi))
