"""Looks at the user's app before anything is started, in a process of its own: it runs the app's code.

``python -m baozi.prove.survey`` reads a question from stdin and writes the answer to stdout, both as JSON.
"""

import contextlib
import json
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import celery

from baozi.doctor import application
from baozi.doctor.examination import findings
from baozi.doctor.facts import BrokerFacts, Facts
from baozi.errors import BaoziError, ExitCode, UsageError
from baozi.prove import tasks
from baozi.prove.advice import changes_of, write_over
from baozi.prove.plugin import Change
from baozi.prove.producer import positional_and_named

#: Seconds for the import of the app; for the result backend to answer.
_IMPORT, _BACKEND = 120, 3
#: The port of each kind of result backend, where its URL names none.
_PORTS = {
    **{"redis": 6379, "rediss": 6379, "postgresql": 5432, "mysql": 3306, "mongodb": 27017},
    **{"memcached": 11211, "elasticsearch": 9200, "couchbase": 8091, "cassandra": 9042, "amqp": 5672},
}
#: How often the advice is applied and the app examined again: one line may ask for another.
_ROUNDS = 5


@dataclass(frozen=True)
class Question:
    """What is asked about an app."""

    app: str
    task: str | None
    """The task to call; None for one that is added."""
    arguments: list[Any]
    """Of each call, as in :class:`baozi.prove.producer.Calls`."""
    rabbitmq: str | None = None
    """The version of the broker that will be used."""


@dataclass(frozen=True)
class AppFacts:
    """What the app is, and what the doctor says of it."""

    tasks: int
    """How many tasks it has."""
    confirms: bool
    """Whether its publishing is confirmed by the broker."""
    findings: dict[str, str]
    """The doctor's findings: their sentences by their ids, the worst first."""
    change: Change = field(default_factory=Change)
    """What the doctor's advice changes."""
    by_hand: list[str] = field(default_factory=list)
    """Ids of the findings whose advice a program cannot write."""
    left: list[str] = field(default_factory=list)
    """Ids of the findings after the change."""
    backend: str = ""
    """The result backend to which the app's workers write, without its password; empty for none."""

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """Return the answer that was written as JSON."""
        return cls(**{**found, "change": Change(**found["change"])})


def survey(question: Question) -> AppFacts:
    """Ask a new process about the app.

    Raises:
        BaoziError: the app cannot be used as it is asked; the error says why.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(asdict(question)),
            capture_output=True,
            text=True,
            timeout=_IMPORT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            "The app {app!r} is not imported within {seconds} s.", app=question.app, seconds=_IMPORT
        ) from None
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UsageError("The app {app!r} cannot be examined: {last}", app=question.app, last=last) from None
    if "refused" in found:
        raise UsageError(found["refused"])
    return AppFacts.of(found)


def look(question: Question) -> AppFacts:
    """Look at the app in this process.

    Raises:
        UsageError: it cannot be used as it is asked.
    """
    app: Any = application.load(question.app)
    seen = application.read(app, question.app)
    if not seen.amqp:
        raise UsageError(
            "The app's broker is {scheme}://. `baozi prove` breaks RabbitMQ, and needs an app"
            " that uses amqp://.",
            scheme=seen.scheme,
        )
    # Their options are those of any task without options of its own.
    tasks.add_to(app)
    _check_task(app, question)
    backend = str(app.conf.result_backend or "")
    _check_backend(backend)
    found = _examine(app, question)
    change, by_hand = changes_of(it.rule for it in found)
    options = app.conf.broker_transport_options or {}
    answer = AppFacts(
        tasks=len(seen.tasks),
        confirms=bool(options.get("confirm_publish")),
        findings={it.rule.id: it.rule.sentence for it in found},
        backend=application.masked(backend),
    )
    return _with_advice(app, question, answer, change, by_hand)


def _with_advice(
    app: Any, question: Question, answer: AppFacts, change: Change, by_hand: list[str]
) -> AppFacts:
    """Return the answer with all advice: what is changed may lead to other findings."""
    for _ in range(_ROUNDS):
        write_over(app, change)
        left = _examine(app, question)
        more, hands = changes_of(it.rule for it in left)
        by_hand += [it for it in hands if it not in by_hand]
        if change.and_also(more) == change:
            break
        change = change.and_also(more)
    return AppFacts(
        **{**vars(answer), "change": change, "by_hand": by_hand, "left": [it.rule.id for it in left]}
    )


def _examine(app: Any, question: Question) -> list[Any]:
    seen = application.read(app, question.app)
    return findings(Facts(app=seen, broker=BrokerFacts(version=question.rabbitmq), celery=celery.__version__))


def _check_task(app: Any, question: Question) -> None:
    name = question.task
    if name is None:
        return
    if name not in app.tasks:
        known = sorted(it for it in app.tasks if not it.startswith(("celery.", "baozi.prove.")))
        listed = ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
        raise UsageError("The app has no task {name!r}. It has {listed}.", name=name, listed=listed or "none")
    takes = app.tasks[name].__header__
    for number, arguments in enumerate(question.arguments, 1):
        args, kwargs = positional_and_named(arguments)
        try:
            takes(*args, **kwargs)
        except TypeError as error:
            raise UsageError(
                "Line {number} of the arguments does not fit {name}: {why}.",
                number=number,
                name=name,
                why=str(error).rstrip("."),
            ) from None


def _check_backend(url: str) -> None:
    """Check that something listens where the result backend is, if its URL has a host."""
    scheme = url.partition("://")[0].split("+")
    parts = urlsplit(url.partition("+")[2] if scheme[0] == "db" else url)
    kind = parts.scheme.partition("+")[0]
    if parts.hostname is None or kind == "rpc":
        return
    try:
        port = parts.port or _PORTS.get(kind)
        if port is not None:
            socket.create_connection((parts.hostname, port), _BACKEND).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            "The result backend {url} does not answer: {error}. Start it, or set"
            " CELERY_RESULT_BACKEND to another, such as disabled://.",
            url=application.masked(url),
            error=error,
        ) from None


def _main() -> int:
    question = Question(**json.loads(sys.stdin.read()))
    with contextlib.redirect_stdout(sys.stderr):
        try:
            said = asdict(look(question))
        except BaoziError as error:
            said = {"refused": str(error)}
    print(json.dumps(said))
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(_main())
