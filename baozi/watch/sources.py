"""What the operator's page shows: the sources, and what each of them tells.

The amount of each is bounded, whatever the size of the system: a number of workers, letters and runs is
named, and the rest is counted.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import func, select

from baozi import broker
from baozi.amqp.connection import broker_url
from baozi.broker_url import MEMORY
from baozi.dead_letters.letter import DeadMessage
from baozi.dead_letters.queue import browsing, replay
from baozi.errors import ExitCode, NothingToAudit, UsageError
from baozi.language import Sentence, in_each_language
from baozi.ledger import Ledger
from baozi.ledger_schema import order_sessions
from baozi.runs import RunSummary, run
from baozi.settings import settings
from baozi.shown import shown
from baozi.status import ANSWERS, IN_MEMORY, NO_ANSWER, Part, ask_workers, broker_part, differing
from baozi.watch.feed import LiveSource
from baozi.watch.newest import EatenBaozi, facts, newest

#: Seconds that the broker, the workers and the ledger may take to answer.
TIMEOUT = 5.0
#: How many of each are named on the page.
_WORKERS, _TASKS, _LETTERS, _RUNS = 50, 20, 200, 8
#: Characters of a letter's reason.
_REASON = 300


class Sources:
    """The sources of one page."""

    def __init__(self, app: str | None) -> None:
        """Read the system of this process's settings.

        Args:
            app: the Celery app that the doctor examines; None for the broker and the ledger alone.
        """
        self._app = app
        self._newest: list[EatenBaozi] = []
        self._letters: Part | None = None
        self._browsing = threading.Lock()

    def all(self) -> list[LiveSource]:
        """Return the sources, in the page's order."""
        return [
            LiveSource("broker", self.broker, 3),
            LiveSource("eating", self.eating, 2),
            # It waits for the slowest worker. What counts is the time to read their answers.
            LiveSource("workers", self.workers, 5, time.thread_time),
            LiveSource("dead_letters", self.dead_letters, 5),
            LiveSource("runs", self.runs, 5),
            LiveSource("doctor", self.doctor, 600),
        ]

    def broker(self) -> Part:
        """Return the counts and rates of both queues."""
        state = broker_part(TIMEOUT)
        told = state.facts.get("management")
        more = {"management": None if told in {None, ANSWERS} else in_each_language(told)}
        return state.model_copy(update={"facts": state.facts | more})

    def eating(self) -> Part:
        """Return latency, rate and consumers, from the newest rows of the ledger."""
        try:
            with _ledger() as ledger, ledger.reading() as connection:
                self._newest = newest(connection)
        except NothingToAudit as error:
            return Part(problem=error.sentence)
        return Part(facts=facts(self._newest))

    def workers(self) -> Part:
        """Return the workers that answer, and their tasks."""
        if broker_url().startswith(MEMORY):
            return Part(problem=IN_MEMORY, exit_code=ExitCode.UNHEALTHY)
        stats, active = ask_workers(TIMEOUT)
        told = summary(stats, active)
        if not stats:
            return Part(problem=NO_ANSWER, exit_code=ExitCode.UNHEALTHY, facts=told)
        return Part(facts=told)

    def dead_letters(self) -> Part:
        """Return the dead letters. They are read again only if their number has changed.

        Nobody else can browse them meanwhile.
        """
        with self._browsing, browsing(TIMEOUT) as browser:
            count = browser.waiting
            known = self._letters
            if known is None or known.facts["count"] != count:
                letters = [_letter(one) for one in browser.letters(_LETTERS)]
                known = self._letters = Part(facts={"count": count, "letters": letters})
            return known

    def replay(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put one dead letter on the queue again.

        Args:
            wanted: its ``id``.

        Raises:
            UsageError: there is no such letter.
            BaoziError: the errors of :func:`baozi.dead_letters.queue.replay`.
        """
        name = wanted.get("id")
        if not isinstance(name, str) or not name.strip():
            raise UsageError("An id is empty; give a letter's id, or its first letters.")
        with self._browsing:
            try:
                return {"replayed": sum(1 for _ in replay([name]))}
            finally:
                self._letters = None

    def runs(self) -> Part:
        """Return the newest runs with their audits."""
        with _ledger() as ledger:
            found = [_run(run(ledger, settings().runs, name)) for name in self._newest_runs(ledger)]
        return Part(facts={"runs": found})

    def doctor(self) -> Part:
        """Return the doctor's findings."""
        from baozi.doctor.examination import examine  # noqa: PLC0415  # loads much, in this source's own thread

        found = broker.find()
        if found.kind == MEMORY:
            return Part(problem=Sentence("The broker is in memory."), exit_code=ExitCode.NO_BROKER)
        result = examine(self._app, found.url, found.management_url)
        findings = [
            {
                "id": one.rule.id,
                "severity": one.rule.severity.word,
                "sentence": in_each_language(one.rule.sentence),
                "evidence": shown(one.evidence),
                "instead": one.rule.instead,
                "source": one.rule.source,
            }
            for one in result.findings
        ]
        unseen = [in_each_language(what) for what in result.unseen]
        return Part(facts={"app": self._app, "findings": findings, "not_looked_at": unseen})

    def _newest_runs(self, ledger: Ledger) -> list[str]:
        """Return the names of the runs in which something happened last, the newest first."""
        last: dict[str, float] = {}
        for row in self._newest:
            last[row.run] = max(last.get(row.run, 0), row.eaten_at)
        try:
            with ledger.reading() as connection:
                at = func.max(order_sessions.c.told_at)
                of = select(order_sessions.c.run, at).group_by(order_sessions.c.run)
                for name, told_at in connection.execute(of.order_by(at.desc()).limit(_RUNS)):
                    last[name] = max(last.get(name, 0), told_at)
        except NothingToAudit:
            pass
        for folder in settings().runs.glob("*/"):
            last[folder.name] = max(last.get(folder.name, 0), folder.stat().st_mtime)
        return sorted(last, key=lambda name: -last[name])[:_RUNS]


def summary(stats: Mapping[str, Any], active: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a page shows of the workers.

    Args:
        stats: the statistics of each worker, by its name, as ``celery inspect stats`` has them.
        active: the tasks of each worker, as ``celery inspect active`` has them.
    """
    busy = {name: active.get(name) or [] for name in stats}
    tasks = Counter(str(one.get("name")) for own in busy.values() for one in own)
    named = sorted(stats, key=lambda name: (-len(busy[name]), name))[:_WORKERS]
    own = [
        {"name": name, **{key: (stats[name].get("baozi") or {}).get(key) for key in ("version", "settings")}}
        for name in stats
    ]
    for one in own:
        one["settings"] = one["settings"] or {}
    return {
        "count": len(stats),
        "active": sum(map(len, busy.values())),
        "received": sum(_received(one) for one in stats.values()),
        "tasks": [{"task": shown(name), "count": count} for name, count in tasks.most_common(_TASKS)],
        "workers": [_worker(name, stats[name], busy[name]) for name in named],
        "differ_in": sorted(differing(own)),
    }


def _worker(name: str, told: Mapping[str, Any], tasks: list[Mapping[str, Any]]) -> dict[str, Any]:
    counts = Counter(str(one.get("name")) for one in tasks)
    return {
        "name": shown(name),
        "active": len(tasks),
        "tasks": [f"{shown(task)} × {count}" for task, count in counts.most_common(3)],
        "received": _received(told),
        "uptime_seconds": told.get("uptime"),
    }


def _received(told: Mapping[str, Any]) -> int:
    return sum((told.get("total") or {}).values())


def _letter(letter: DeadMessage) -> dict[str, Any]:
    return {
        "id": letter.id,
        "baozi": shown(", ".join(one.id for one in letter.baozi[:3])),
        "reason": shown(letter.reason)[:_REASON],
        "attempts": letter.attempts,
        "last_at": letter.last_at,
        "consumer": shown(letter.consumer or ""),
    }


def _run(one: RunSummary) -> dict[str, Any]:
    problems = [in_each_language(problem) for problem in one.problems]
    return one.model_dump(mode="json", exclude={"problems"}) | {"problems": problems}


@contextmanager
def _ledger() -> Iterator[Ledger]:
    ledger = Ledger(settings().ledger, TIMEOUT)
    try:
        yield ledger
    finally:
        ledger.close()
