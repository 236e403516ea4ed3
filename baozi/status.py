"""Collects the present state of the broker, the workers, the ledger and the dead letters.

Each part is queried in its own thread until the deadline, so that one that fails or hangs does not hide the
others.
"""

import queue as queues
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from amqp.exceptions import NotFound
from celery import Celery
from pydantic import BaseModel, ConfigDict, SkipValidation
from sqlalchemy import Connection, func, select, text

from baozi import broker
from baozi.amqp.connection import broker_errors, broker_url, connect, connect_errors
from baozi.broker import management
from baozi.broker_url import MEMORY
from baozi.dead_letters.queue import browsing
from baozi.errors import BaoziError, ExitCode
from baozi.language import Sentence
from baozi.ledger import Ledger
from baozi.ledger_schema import VERSION, eaten, order_sessions, orders
from baozi.settings import settings
from baozi.topology import Topology
from baozi.worker.configuration import celery_settings

#: Of how many dead letters the reasons are counted. No other process can browse them meanwhile.
MOST_LETTERS = 1000
#: The text about the management API if it has answered all queries.
ANSWERS = "It answers."
#: Why nothing is known of the workers.
IN_MEMORY = Sentence("No other process sees workers in memory.")
NO_ANSWER = Sentence("No worker answers: none runs, each is frozen, or its pool is solo and busy.")
#: Characters of a reason. The text after a colon is left out, because it is about one letter only.
_LONGEST_REASON = 60
#: How many running tasks of each worker are named.
_TASKS_NAMED = 5
#: The part of the timeout for the workers' answers. The rest is for the connection.
_SHARE_FOR_ANSWERS = 0.6


class Part(BaseModel):
    """The state of one part of the system."""

    model_config = ConfigDict(frozen=True)

    problem: SkipValidation[str | None] = None  # a sentence stays one
    """What is wrong with it, or why its state is unknown, as a sentence."""
    exit_code: ExitCode = ExitCode.OK
    facts: dict[str, Any] = {}
    """Named values. Which ones depends on the part."""


class Status(BaseModel):
    """The state of all parts."""

    model_config = ConfigDict(frozen=True)

    home: str
    home_reason: SkipValidation[str]  # a sentence stays one
    broker: Part
    workers: Part
    ledger: Part
    dead_letters: Part

    @property
    def parts(self) -> Mapping[str, Part]:
        """The parts by their names."""
        names = ("broker", "workers", "ledger", "dead_letters")
        return {name: getattr(self, name) for name in names}

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the first part that has a problem; 0 if none has. Dead letters are no problem."""
        return next((part.exit_code for part in self.parts.values() if part.exit_code), ExitCode.OK)


def collect(timeout: float, letters: int = MOST_LETTERS) -> Status:
    """Return the state of each part.

    Args:
        timeout: seconds within which each part must answer.
        letters: the largest number of dead letters whose reasons are counted.
    """
    counted = threading.Event()

    def count() -> Part:
        try:
            return broker_part(timeout)
        finally:
            counted.set()

    def browse() -> Part:
        # A letter that is browsed is not ready, so the queues are counted first, unless the broker is slow.
        counted.wait(timeout / 2)
        return _dead_letters(timeout / 2, letters)

    looks = {
        "broker": count,
        "workers": partial(_workers, timeout),
        "ledger": partial(_ledger, timeout),
        "dead_letters": browse,
    }
    answers: queues.SimpleQueue[tuple[str, Part]] = queues.SimpleQueue()
    for name, one in looks.items():
        # Daemon threads, so that the command can end while one of them hangs.
        threading.Thread(target=_answer, args=(name, one, answers), daemon=True).start()
    parts: dict[str, Part] = {}
    deadline = time.monotonic() + timeout
    while len(parts) < len(looks):
        try:
            name, part = answers.get(timeout=max(0, deadline - time.monotonic()))
        except queues.Empty:
            break
        parts[name] = part
    late = Part(
        problem=Sentence("It did not answer within {seconds:g} s.", seconds=timeout),
        exit_code=ExitCode.UNHEALTHY,
    )
    chosen = settings()
    return Status(
        home=str(chosen.home.absolute()),
        home_reason=chosen.home_reason,
        **{name: parts.get(name, late) for name in looks},
    )


def _answer(name: str, one: Callable[[], Part], answers: queues.SimpleQueue[tuple[str, Part]]) -> None:
    try:
        part = one()
    except BaoziError as error:
        part = Part(problem=error.sentence, exit_code=error.exit_code)
    except Exception as error:  # another part's answer must not be lost with this one's
        problem = Sentence("Unexpected {error}: this is a bug.", error=type(error).__name__)
        part = Part(problem=problem, exit_code=ExitCode.BUG)
    answers.put((name, part))


def broker_part(timeout: float) -> Part:
    """Return the state of the broker and of both queues.

    Args:
        timeout: seconds for the connection and for each query.

    Raises:
        BrokerError: the broker cannot be used.
    """
    found = broker.find()
    facts: dict[str, Any] = {"url": found.safe_url, "kind": found.kind, "version": found.version}
    if found.kind == MEMORY:
        return Part(problem=Sentence("The broker is in memory."), exit_code=ExitCode.NO_BROKER, facts=facts)
    topology = Topology.of(settings())
    with connect("status", timeout, found.url) as connection:
        server: Any = connection.connection
        facts["version"] = facts["version"] or server.server_properties.get("version")
        facts["queues"] = _queues(connection, topology)
    facts["management"] = _management(found, facts["queues"], timeout)
    if facts["queues"][0]["ready"] is None:
        problem = Sentence(
            "There is no queue {name} yet: a worker declares it when it starts.", name=topology.name
        )
        return Part(problem=problem, exit_code=ExitCode.UNHEALTHY, facts=facts)
    return Part(facts=facts)


def queue_states(topology: Topology, timeout: float) -> list[dict[str, Any]]:
    """Return the states of the queue and of its dead-letter queue.

    Each is a dictionary with ``name``, the counts ``ready``, ``unacknowledged`` and ``consumers``,
    ``oldest_seconds``, the age of the oldest message, and the rates ``put_per_second`` and
    ``acknowledged_per_second``. A value is None if it is unknown. If a queue does not exist, all are None.

    Args:
        topology: the queues.
        timeout: seconds to wait for the broker.

    Raises:
        BrokerError: the broker cannot be used.
    """
    found = broker.find()
    with connect("status", timeout, found.url) as connection:
        states = _queues(connection, topology)
    _management(found, states, timeout)
    return states


def _queues(connection: Any, topology: Topology) -> list[dict[str, Any]]:
    return [_queue(connection, name) for name in (topology.name, topology.dead)]


def _queue(connection: Any, name: str) -> dict[str, Any]:
    state: dict[str, Any] = {"name": name, "ready": None, "unacknowledged": None, "consumers": None}
    state |= {"oldest_seconds": None, "put_per_second": None, "acknowledged_per_second": None}
    with broker_errors():
        try:
            with connection.channel() as channel:
                declared = channel.queue_declare(name, passive=True)
        except NotFound:
            return state
    return state | {"ready": declared.message_count, "consumers": declared.consumer_count}


def _management(found: broker.Broker, states: list[dict[str, Any]], timeout: float) -> str:
    """Add to ``states`` what only the management API knows. Return a sentence on whether it answered."""
    if not found.management_url:
        return Sentence("Its address is not known, so unacknowledged messages are not counted.")
    virtual_host = quote(urlsplit(found.url).path[1:] or "/", safe="%")
    for state in states:
        path = f"queues/{virtual_host}/{quote(state['name'], safe='')}"
        try:
            told = management.ask(found.management_url, found.url, "GET", path, timeout=timeout)
        except OSError as error:
            if getattr(error, "code", None) == 404:  # no such queue, or the statistics do not have it yet
                continue
            return Sentence(
                "It does not answer, so unacknowledged messages are not counted ({error}).", error=error
            )
        state["unacknowledged"] = told.get("messages_unacknowledged")
        rates = told.get("message_stats") or {}
        state["put_per_second"] = (rates.get("publish_details") or {}).get("rate")
        state["acknowledged_per_second"] = (rates.get("ack_details") or {}).get("rate")
        # RabbitMQ reports the time of the oldest message only for classic queues.
        if told.get("head_message_timestamp"):
            state["oldest_seconds"] = round(time.time() - told["head_message_timestamp"])
    return ANSWERS


def _workers(timeout: float) -> Part:
    if broker_url().startswith(MEMORY):
        return Part(problem=IN_MEMORY, exit_code=ExitCode.UNHEALTHY)
    stats, active = ask_workers(timeout)
    workers = [_worker(name, stats[name], active.get(name, [])) for name in sorted(stats)]
    facts = {"workers": workers, "differing_settings": differing(workers)}
    if not workers:
        return Part(problem=NO_ANSWER, exit_code=ExitCode.UNHEALTHY, facts=facts)
    return Part(facts=facts)


def ask_workers(timeout: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the workers that answer say: the statistics of each, and its tasks, by its name.

    It takes some 60 % of ``timeout``, however many answer.

    Args:
        timeout: seconds for the connection and the answers.

    Raises:
        BrokerError: the broker cannot be used.
    """
    app = Celery("status", set_as_current=False)
    app.conf.update(celery_settings())
    try:
        with connect_errors("the settings"):
            ask: Any = app.control.inspect(timeout=timeout * _SHARE_FOR_ANSWERS / 2)
            stats: dict[str, Any] = ask.stats() or {}
            active: dict[str, Any] = (ask.active() or {}) if stats else {}
    finally:
        app.close()
    return stats, active


def _worker(name: str, stats: Mapping[str, Any], active: list[Mapping[str, Any]]) -> dict[str, Any]:
    own = stats.get("baozi") or {}
    return {
        "name": name,
        "version": own.get("version"),
        "pid": stats.get("pid"),
        "uptime_seconds": stats.get("uptime"),
        "received": sum((stats.get("total") or {}).values()),
        "active": len(active),
        "tasks": [{"task": it.get("name"), "id": it.get("id")} for it in active[:_TASKS_NAMED]],
        "batches": own.get("batches"),
        "settings": own.get("settings") or {},
    }


def differing(workers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each setting in which workers differ, and the version if it differs: its values by worker."""
    told = {one["name"]: {"version": one["version"], **one["settings"]} for one in workers}
    names = dict.fromkeys(name for one in told.values() for name in one)
    values = {name: {worker: one.get(name) for worker, one in told.items()} for name in names}
    return {name: own for name, own in values.items() if len({repr(value) for value in own.values()}) > 1}


def _ledger(timeout: float) -> Part:
    url = settings().ledger
    ledger = Ledger(url, timeout)
    facts: dict[str, Any] = {"url": url.render_as_string(hide_password=True), "needed": VERSION}
    try:
        facts["schema"] = ledger.version()
        with ledger.reading() as connection:
            facts["bytes"] = _bytes(connection, url.database)
            facts["oldest_open_order"] = oldest_open_order(connection)
    except BaoziError as error:
        return Part(problem=error.sentence, exit_code=error.exit_code, facts=facts)
    finally:
        ledger.close()
    return Part(facts=facts)


def _bytes(connection: Connection, file: str | None) -> int:
    if connection.dialect.name == "postgresql":
        sizes = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.oid IN ({})"
        tables = ", ".join(f"'{name}'::regclass" for name in ("eaten", "done", "orders", "order_sessions"))
        return int(connection.execute(text(sizes.format(tables))).scalar_one())
    parts = [Path(f"{file}{suffix}") for suffix in ("", "-wal")]
    return sum(path.stat().st_size for path in parts if path.exists())


def oldest_open_order(connection: Connection) -> dict[str, Any] | None:
    """Return the oldest order that is open according to the ledger, or None if none is open."""
    of = order_sessions.c
    again = select(of.run, of.producer, of.told_at.label("at")).where(of.opened > of.closed)
    # The first baozi of an order opens it. Until it is closed or opened again, only `eaten` has it.
    told = select(of.run, of.producer).union_all(select(orders.c.run, orders.c.producer)).subquery()
    first = (
        select(eaten.c.run, eaten.c.producer, func.min(eaten.c.made_at).label("at"))
        .outerjoin(told, (told.c.run == eaten.c.run) & (told.c.producer == eaten.c.producer))
        .where(told.c.run.is_(None))
        .group_by(eaten.c.run, eaten.c.producer)
    )
    both = again.union_all(first).subquery()
    row = connection.execute(select(both).order_by(both.c.at).limit(1)).one_or_none()
    if row is None:
        return None
    return {"run": row.run, "producer": row.producer, "age_seconds": round(time.time() - row.at)}


def _dead_letters(timeout: float, letters: int) -> Part:
    reasons: Counter[str] = Counter()
    if not letters:
        return Part(facts={"looked_at": 0, "at_most": 0, "reasons": {}})
    with browsing(timeout) as seen:
        for letter in seen.letters(letters):
            reasons[_kind(letter.reason)] += 1
    facts = {"looked_at": sum(reasons.values()), "at_most": letters, "reasons": dict(reasons.most_common())}
    return Part(facts=facts)


def _kind(reason: str) -> str:
    head = reason.partition(":")[0].strip()
    return head if len(head) <= _LONGEST_REASON else head[:_LONGEST_REASON] + "…"
