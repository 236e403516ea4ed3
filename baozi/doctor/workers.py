"""Asks the running workers for their settings, by Celery's own inspect broadcast."""

import re
import threading
from collections.abc import Mapping
from typing import Any

from celery import Celery

from baozi.doctor.application import masked
from baozi.doctor.facts import WorkerFacts

#: Seconds in which a worker must answer each of three questions, and in which all of it must end. The last is
#: for a broker that accepts the connection and then says nothing more: Celery would wait without an end.
_TIMEOUT, _DEADLINE = 2.0, 15.0


def ask(app: Celery, url: str, unseen: list[str]) -> tuple[WorkerFacts, ...] | None:
    """Return the workers that answer, or None if they cannot be asked.

    Args:
        app: the app whose workers are asked.
        url: the broker's URL.
        unseen: gets a sentence if nothing could be asked.
    """
    found: list[tuple[WorkerFacts, ...]] = []
    failed: list[str] = []

    def look() -> None:
        try:
            found.append(_look(app, url))
        except Exception as error:
            failed.append(f"{type(error).__name__}: {masked(error)}")

    thread = threading.Thread(target=look, name="inspect", daemon=True)
    thread.start()
    thread.join(_DEADLINE)
    if found:
        if not found[0]:
            unseen.append(f"the workers: none answered within {_TIMEOUT:g} s")
        return found[0]
    why = failed[0].splitlines()[0] if failed else f"the broker did not answer within {_DEADLINE:g} s"
    unseen.append(f"the workers: they cannot be asked ({why})")
    return None


def _look(app: Celery, url: str) -> tuple[WorkerFacts, ...]:
    # Without confirms: with them a broker that has an alarm on would hold this up.
    options = {"read_timeout": _DEADLINE, "write_timeout": _DEADLINE}
    connecting: Any = app.connection
    with connecting(url, transport_options=options, connect_timeout=5) as connection:
        control: Any = app.control
        mailbox = control.mailbox(connection)
        mailbox._producer_pool = None  # of the app, whose producers may confirm

        def ask(question: str, most: int | None = None, **arguments: Any) -> dict[str, Any]:
            """Return each worker's answer, as soon as ``most`` workers have answered."""
            answers = mailbox._broadcast(question, arguments, reply=True, timeout=_TIMEOUT, limit=most) or []
            return {name: it for answer in answers for name, it in answer.items()}

        stats = ask("stats")
        if not stats:
            return ()
        settings, reports = ask("conf", len(stats), with_defaults=True), ask("report", len(stats))
    return tuple(
        WorkerFacts(
            name=name,
            celery=_release(reports.get(name)),
            pool=_pool(it),
            settings=_settings(settings.get(name)),
        )
        for name, it in sorted(stats.items())
    )


def _release(report: Any) -> str | None:
    text = str(report.get("ok", "")) if isinstance(report, Mapping) else ""
    found = re.search(r"\bcelery:(\S+)", text)
    return found[1] if found else None


def _pool(stats: Any) -> str:
    pool = stats.get("pool") if isinstance(stats, Mapping) else None
    # Such as "celery.concurrency.prefork:TaskPool".
    where = str(pool.get("implementation", "")) if isinstance(pool, Mapping) else ""
    return where.partition(":")[0].rpartition(".")[2] or "prefork"


def _settings(answer: Any) -> Mapping[str, Any]:
    return answer if isinstance(answer, Mapping) and "error" not in answer else {}
