"""Collects the facts about an app and applies the rules. Nothing is declared, published or consumed.

One exception: the workers are asked by Celery's own inspect broadcast, which sends a message to each of them
and receives the answers on its own queue.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import celery

from baozi.doctor import application, broker, ledger, workers
from baozi.doctor.facts import App, Facts
from baozi.doctor.rules import RULES, Rule, Severity
from baozi.errors import BaoziError, ExitCode, UsageError
from baozi.settings import settings


@dataclass(frozen=True)
class Finding:
    """A danger that was seen."""

    rule: Rule
    evidence: str


@dataclass
class Examination:
    """What came out."""

    app: str | None
    findings: list[Finding]
    """The worst first."""
    unseen: list[str] = field(default_factory=list)
    """What was not looked at, and why."""
    failed: BaoziError | None = None
    """What could not be used: the broker, or the ledger."""

    def count(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return sum(it.rule.severity is severity for it in self.findings)

    def exit_code(self, strict: bool) -> ExitCode:
        """Return the command's: 1 if anything loses, with ``strict`` if there is any finding."""
        if self.count(Severity.LOSES) or (strict and self.findings):
            return ExitCode.LOSS
        return ExitCode(self.failed.exit_code) if self.failed else ExitCode.OK


def findings(facts: Facts, rules: Iterable[Rule] = RULES) -> list[Finding]:
    """Apply the rules to ``facts``; the worst finding is the first."""
    speaks_amqp = facts.app is None or facts.app.amqp
    seen = []
    for rule in rules:
        if rule.check is None or (rule.amqp and not speaks_amqp):
            continue
        evidence = rule.check(facts)
        if evidence is not None:
            seen.append(Finding(rule, application.masked(evidence)))
    return sorted(seen, key=lambda it: (it.rule.severity, it.rule.id))


def examine(
    name: str | None, broker_url: str | None = None, management_url: str | None = None, live: bool = True
) -> Examination:
    """Examine an app, its broker, its workers and its ledger.

    Args:
        name: what ``celery -A`` takes; None for the broker alone.
        broker_url: the broker to look at; default: that of the app.
        management_url: its management API; default: looked for where the broker is.
        live: whether to connect to anything. Without, the app alone is looked at.

    Raises:
        AppNotFound: the app cannot be imported.
        UsageError: neither an app nor a broker is named.
        BaoziError: the app's settings cannot be read.
    """
    if name is None and (broker_url is None or not live):
        raise UsageError("There is nothing to examine. Name an app with -A, or a broker with --broker.")
    app: Any = application.load(name) if name is not None else None
    read = application.read(app, name, broker_url) if name is not None else None
    result = Examination(name, [])
    if read is not None and not read.tasks:
        result.unseen.append("tasks: the app defines none")
    if not live:
        result.unseen.append("the broker, the workers and the ledger: --static")
        result.findings = findings(Facts(app=read, celery=celery.__version__))
        return result
    if read is not None and not read.amqp:
        result.unseen.append(
            f"the broker and the rules about RabbitMQ: this app's broker is {read.scheme}://"
        )
        seen = Facts(app=read)
    else:
        url = broker_url or application.url_of(app)
        seen = _connected(app, read, url, management_url, result)
    facts = Facts(
        app=read,
        broker=seen.broker,
        workers=seen.workers,
        ledger=_ledger(app, result),
        container=application.container(),
        celery=celery.__version__,
    )
    result.findings = findings(facts)
    return result


def _connected(
    app: Any, read: App | None, url: str, management_url: str | None, result: Examination
) -> Facts:
    """Return what the broker and the workers say."""
    try:
        told = broker.ask(url, management_url, _exchanges(app), result.unseen)
    except BaoziError as error:
        result.failed = error
        result.unseen.append(f"the broker and the workers. {str(error).rstrip('.')}")
        return Facts(app=read)
    asked = workers.ask(app, url, result.unseen) if app is not None else None
    return Facts(app=read, broker=told, workers=asked)


def _exchanges(app: Any) -> set[str]:
    if app is None:
        return set()
    return {getattr(queue.exchange, "name", "") or "" for queue in app.amqp.queues.values()}


def _ledger(app: Any, result: Examination) -> Any:
    reliable = getattr(app, "reliable", None)
    try:
        if reliable is not None:
            url = reliable.ledger
        elif settings().ledger_url is not None:
            url = settings().ledger
        else:
            return None
        return ledger.look(url, result.unseen)
    except BaoziError as error:
        result.failed = result.failed or error
        result.unseen.append(f"the ledger. {str(error).rstrip('.')}")
        return None
