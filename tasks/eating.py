"""The work itself: ``tasks.eat`` eats one baozi, ``tasks.eat_tray`` all of a producer's tray."""

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

#: The names of the tasks that eat one baozi, and a producer's tray of them.
EAT, EAT_TRAY = "tasks.eat", "tasks.eat_tray"


class Eating(ReliableTask):
    """A task whose messages carry their identity in the body, as those of all releases do."""

    def identity(self, arguments: Mapping[str, Any], _header: Callable[[str], Any]) -> Baozi:
        """Return which baozi this is.

        Raises:
            NotABaozi: the message's argument is none.
        """
        return Baozi.parse(arguments["item"])

    def on_recorded(self, works: Sequence[Work], consumer: str) -> None:
        """Write down and print what ``consumer`` ate. It is in the ledger: nothing here is an error."""
        eaten = [baozi for work in works if (baozi := work.call.baozi) is not None]
        with suppress(Exception):
            note(consumer, Event.EATEN, eaten)
        say("\n".join(baozi.eaten_line(consumer) for baozi in eaten))


def _key(item: dict[str, Any]) -> str:
    return f"{item['run']}/{item['producer']}/{item['number']}"


@reliable.task(name=EAT, base=Eating, key=_key, bind=True, batch=lambda: settings().tray_size)
def eat(self: Task[Any, Any], item: Any) -> None:
    """Eat one baozi: ``{"run", "producer", "number", "made_at"}``. Delivered twice, it is eaten once."""
    if settings().journal:
        consumer, _, _ = (self.request.hostname or "").partition("@")
        note(consumer, Event.STARTED, [Baozi.parse(item)])
    if settings().eat_seconds:  # to sleep for no time takes 60 µs
        time.sleep(settings().eat_seconds)


class EatingTray(Eating):
    """A task whose messages each stand for several of ``tasks.eat``."""

    def works(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], _task_id: str, header: Callable[[str], Any]
    ) -> list[Work]:
        """Return one execution of ``tasks.eat`` for each baozi on the tray.

        Raises:
            BadArguments: there is not one argument.
            NotABaozi: it is no tray, or the header ``baozi-order`` is no order's id.
        """
        _, named = self.arguments.checked(args, kwargs)
        order_id = order_of(header(ORDER_HEADER))
        return [
            Work(eat, Call(EAT, baozi.id, baozi, order_id), (), {"item": baozi.argument})
            for baozi in Tray.parse(named["item"]).baozi
        ]


@reliable.task(name=EAT_TRAY, base=EatingTray, batch=lambda: settings().tray_size)
def eat_tray(item: Any) -> None:
    """Eat a producer's tray: ``{"run", "producer", "numbers", "made_at"}``; called directly, each in turn."""
    for baozi in Tray.parse(item).baozi:
        eat(baozi.argument)


@cache
def journal(consumer: str) -> WorkerJournal | None:
    """Return this process's journal where one is asked for; processes of one consumer append to one file."""
    folder = settings().journal
    return WorkerJournal(folder / "consumer" / f"{consumer}.journal") if folder else None


def note(consumer: str, event: Event, tray: Sequence[Baozi]) -> None:
    """Write down, where a journal is asked for, that ``event`` befell all of ``tray``."""
    own = journal(consumer)
    if own is not None and tray:
        own.write(event, *(baozi.id for baozi in tray))
