"""The rules: each is a danger, how it is seen in the facts, and the line to write instead.

The rules from ``BZ101`` on are dangers of settings, queues and code. Those from ``BZ201`` on are about the
state in which a broker, a ledger or workers are. A rule without a check is a danger that cannot be seen from
outside. It says which facts would be needed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from baozi.doctor.facts import (
    CONSUMER_TIMEOUT,
    App,
    Facts,
    QueueFacts,
    Task,
    Version,
    places,
    routed,
    some,
)
from baozi.language import Sentence

#: Workers from which on gossip costs more than it helps: N workers send N²/2 messages a second.
_MANY_WORKERS = 30
#: Seconds of a task below which it counts as short: four of them that wait behind another are no trouble.
_SHORT = 60
#: Seconds of a clock's difference, as the audit and an ETA can bear it.
_CLOCKS = 2.0
#: Settings that workers of one app may well have different: one has more memory or serves a slow queue.
_OWN_OF_A_WORKER = {"worker_concurrency", "worker_prefetch_multiplier", "worker_pool", "worker_state_db"}

_CC = "https://docs.celeryq.dev/en/stable/userguide/configuration.html"
_CELERY = "https://github.com/celery/celery/issues/"
_QUORUM = "https://www.rabbitmq.com/docs/quorum-queues"


class Severity(IntEnum):
    """What happens, the worst first."""

    LOSES = 0
    REPEATS = 1
    STOPS = 2
    SLOWS = 3

    @property
    def word(self) -> str:
        """``loses`` and so on."""
        return self.name.lower()


@dataclass(frozen=True)
class Rule:
    """One danger."""

    id: str
    severity: Severity
    sentence: str
    """What happens, and when."""
    instead: str
    """The line, or lines, to write."""
    source: str
    """Where it is described."""
    check: Callable[[Facts], str | None] | None = None
    """Returns the evidence, or None where the danger is not seen. None: it cannot be seen."""
    versions: str = "all"
    """The versions that it applies to."""
    amqp: bool = True
    """Whether it is about a broker that speaks AMQP."""
    needs: str = ""
    """Without a check: the facts that it would need."""


def of_app(look: Callable[[App], str | None]) -> Callable[[Facts], str | None]:
    """Return a check that looks at the app alone."""
    return lambda facts: look(facts.app) if facts.app is not None else None


def _tasks(app: App, wrong: Callable[[Task], object], what: str) -> str | None:
    found = [task.name for task in app.plain if wrong(task)]
    if not found:
        return None
    return f"{what} for {len(found)} of {len(app.tasks)} tasks: {some(found)}"


def _queues(found: Iterable[tuple[QueueFacts, str]]) -> str | None:
    told = [f"{queue.name}: {what}" for queue, what in found]
    return some(told) if told else None


def _set_to(app: App, name: str) -> str:
    return f"{name} is {app.settings.get(name)!r}"


# The tasks.


def _early(app: App) -> str | None:
    return _tasks(app, lambda it: not it.acks_late, "task_acks_late is off")


def _lost_child(facts: Facts) -> str | None:
    if facts.app is None or not _has_children(facts):
        return None
    return _tasks(
        facts.app,
        lambda it: it.acks_late and not it.reject_on_worker_lost and not it.retry_on_worker_lost,
        "task_reject_on_worker_lost is off",
    )


def _pools(facts: Facts) -> dict[str, str]:
    """The pools of the workers that answered, or else that of the settings."""
    if facts.workers:
        return {it.name: it.pool for it in facts.workers}
    return {"worker_pool": str(facts.app.settings.get("worker_pool"))} if facts.app else {}


def _has_children(facts: Facts) -> bool:
    return "prefork" in _pools(facts).values()


def _unlimited(facts: Facts) -> list[tuple[QueueFacts, str]]:
    """The queues of the app's own declaration whose messages are given back without an end."""
    found = []
    for queue in facts.plain_queues:
        limit = queue.delivery_limit(facts.broker_version)
        if limit is not None and limit < 0 and not (queue.type == "classic" and queue.made_by_celery):
            found.append((queue, f"{queue.type}, no delivery limit"))
    return found


def _kills(task: Task) -> bool:
    return task.acks_late and task.reject_on_worker_lost


def _poison(facts: Facts) -> str | None:
    if facts.app is None or not any(map(_kills, facts.app.plain)):
        return None
    return _queues(_unlimited(facts))


def _failures(facts: Facts) -> str | None:
    app = facts.app
    if app is None:
        return None
    found = _tasks(app, lambda it: it.acks_late and it.acks_on_failure, "task_acks_on_failure is on")
    if found or not any(it.acks_late and not it.acks_on_failure for it in app.plain):
        return found
    # The failed message is rejected: without a dead-letter exchange that drops it. Quorum queues: BZ112.
    # Queues that Celery makes: BZ110.
    return _queues(
        (it, "rejects a failed message, and has no dead-letter exchange")
        for it in facts.plain_queues
        if it.type == "classic" and not it.made_by_celery and not it.get("dead-letter-exchange")
    )


def _hanging(facts: Facts) -> str | None:
    app = facts.app
    if app is None or any(map(_kills, app.plain)):  # BZ103 names the same queues
        return None
    if not any(it.acks_late and not it.acks_on_timeout and it.time_limit for it in app.plain):
        return None
    return _queues(_unlimited(facts))


# Publishing.


def _transport(app: App, name: str) -> Any:
    return (app.settings.get("broker_transport_options") or {}).get(name)


def _unconfirmed(app: App) -> str | None:
    if _transport(app, "confirm_publish"):
        return None
    return "broker_transport_options has no confirm_publish"


def _unbounded(app: App) -> str | None:
    missing = [it for it in ("read_timeout", "write_timeout") if not _transport(app, it)]
    if not _transport(app, "confirm_publish") or not missing:
        return None
    return f"broker_transport_options has confirm_publish and no {' and no '.join(missing)}"


def _not_mandatory(app: App) -> str | None:
    return _tasks(app, lambda it: not it.mandatory, "mandatory is off")


# Queues.


def _made_by_celery(facts: Facts) -> str | None:
    return _queues(
        (it, "a classic queue that Celery makes")
        for it in facts.plain_queues
        if it.made_by_celery and it.type == "classic" and it.declared_type in {None, "classic"}
    )


def _creates_missing(app: App) -> str | None:
    if not app.settings.get("task_create_missing_queues") or (app.tasks and not app.plain):
        return None
    return _set_to(app, "task_create_missing_queues")


def _drops_over_limit(facts: Facts) -> str | None:
    found = []
    for queue in facts.queues:
        if queue.type != "quorum" or not queue.known:
            continue
        limit = queue.delivery_limit(facts.broker_version)
        dead = queue.get("dead-letter-exchange")
        if limit is not None and limit < 0:
            continue
        allowed = "20, RabbitMQ's own" if limit is None else str(limit)
        if dead is None:
            found.append((queue, f"delivery limit {allowed}, no dead-letter exchange"))
        elif (why := _leads_nowhere(facts, dead)) is not None:
            found.append((queue, why))
    return _queues(found)


def _leads_nowhere(facts: Facts, exchange: str) -> str | None:
    broker = facts.broker
    if broker is None or broker.exchanges is None or exchange == "":
        return None
    if exchange not in broker.exchanges:
        return f"its dead-letter exchange {exchange} does not exist"
    if not any(routed(broker.bindings, exchange)):
        return f"no queue is bound to its dead-letter exchange {exchange}"
    return None


def _nacks(facts: Facts) -> str | None:
    version = facts.broker_version
    calls = facts.app.calls_of("nack") if facts.app else []
    if version is None or version < (4, 3) or not calls:
        return None
    quorum = [it.name for it in facts.queues if it.type == "quorum"]
    return f"basic_nack at {places(calls)}; quorum queue {some(quorum)}" if quorum else None


def _at_most_once(facts: Facts) -> str | None:
    found = []
    for queue in facts.queues:
        if queue.type != "quorum" or not queue.get("dead-letter-exchange"):
            continue
        strategy, overflow = queue.get("dead-letter-strategy"), queue.get("overflow")
        if strategy != "at-least-once":
            found.append((queue, f"x-dead-letter-strategy is {strategy or 'at-most-once'}"))
        elif overflow != "reject-publish" and not _bounded(queue):  # else BZ115
            found.append(
                (queue, f"at-least-once needs reject-publish, x-overflow is {overflow or 'drop-head'}")
            )
    return _queues(found)


def _bounded(queue: QueueFacts) -> bool:
    return queue.get("max-length") is not None or queue.get("max-length-bytes") is not None


def _drops_oldest(facts: Facts) -> str | None:
    return _queues(
        (it, f"has a maximum length, and x-overflow is {it.get('overflow') or 'drop-head'}")
        for it in facts.queues
        if _bounded(it) and it.get("overflow") not in {"reject-publish", "reject-publish-dlx"}
    )


# Time.


def _consumer_timeout(queues: Iterable[QueueFacts]) -> float:
    """Seconds of the shortest consumer timeout of ``queues``."""
    given = [it.get("consumer-timeout") for it in queues]
    return min((it / 1000 for it in given if isinstance(it, int)), default=CONSUMER_TIMEOUT)


def _too_long(facts: Facts) -> str | None:
    app = facts.app
    if app is None:
        return None
    timeout = _consumer_timeout(facts.plain_queues)
    # An early acknowledgement ends the broker's patience before the task begins.
    found = _tasks(
        app,
        lambda it: it.acks_late and (it.limit is None or it.limit > timeout),
        f"no time limit below the consumer timeout of {timeout:g} s",
    )
    waiting = [it for it in app.calls_of("delay") if (it.seconds or 0) > timeout]
    if waiting and not _natively_delayed(facts):
        held = f"a worker holds a message for more than {timeout:g} s: {places(waiting)}"
        return f"{found}; {held}" if found else held
    return found


def _natively_delayed(facts: Facts) -> bool:
    """Whether Celery lets the broker hold delayed messages: with a quorum queue, and no direct exchange."""
    queues = facts.plain_queues
    return any(it.type == "quorum" for it in queues) and all(it.exchange_type != "direct" for it in queues)


def _delays(app: App) -> str | None:
    calls = app.calls_of("delay")
    told = [f"a countdown, an ETA or a retry at {places(calls)}"] if calls else []
    retried = [it.name for it in app.plain if it.autoretry]
    told += [f"autoretry_for of {some(retried)}"] if retried else []
    return " and ".join(told) or None


def _blocks(facts: Facts) -> str | None:
    delays = _delays(facts.app) if facts.app else None
    direct = [it for it in facts.plain_queues if it.type == "quorum" and it.exchange_type == "direct"]
    if delays is None or not direct:
        return None
    return f"{_queues((it, 'quorum, with a direct exchange') for it in direct)}; {delays}"


def _older(facts: Facts, below: Version, since: Version = (0,)) -> str | None:
    """The workers, or this process, whose Celery is older than ``below``."""
    told = [
        f"Celery {'.'.join(map(str, version))} in {name}"
        for name, version in facts.celery_versions().items()
        if since <= version < below
    ]
    return some(told) if told else None


def _cycles(facts: Facts) -> str | None:
    old = _older(facts, (5, 6, 3), (5, 5))
    delays = _delays(facts.app) if facts.app else None
    return f"{old}; {delays}" if old and delays and _natively_delayed(facts) else None


def _held_in_memory(facts: Facts) -> str | None:
    app = facts.app
    if app is None or app.settings.get("worker_eta_task_limit") is not None:
        return None
    classic = [it for it in facts.plain_queues if it.type == "classic"]
    delays = _delays(app)
    if delays is None or not classic or _natively_delayed(facts):
        return None
    return f"worker_eta_task_limit is not set; {delays}"


def _stays_reduced(facts: Facts) -> str | None:
    app = facts.app
    quorum = [it.name for it in facts.plain_queues if it.type == "quorum"]
    old = _older(facts, (5, 7), (5, 3))
    if app is None or not old or not quorum or not app.settings.get("worker_enable_prefetch_count_reduction"):
        return None
    return f"{old}; quorum queue {some(quorum)}"


def _prefetches(app: App) -> str | None:
    multiplier = app.settings.get("worker_prefetch_multiplier")
    if multiplier == 0:
        return "worker_prefetch_multiplier is 0: no limit"
    if multiplier is None or multiplier <= 1 or multiplier <= 2 * app.batch > 2:
        return None
    return _tasks(
        app,
        lambda it: it.limit is None or it.limit > _SHORT,
        f"worker_prefetch_multiplier is {multiplier}, and no time limit is below {_SHORT} s",
    )


# Workers.


def _not_cancelled(app: App) -> str | None:
    if app.settings.get("worker_cancel_long_running_tasks_on_connection_loss"):
        return None
    if not any(it.acks_late for it in app.tasks):
        return None
    return _set_to(app, "worker_cancel_long_running_tasks_on_connection_loss")


def _no_heartbeat(app: App) -> str | None:
    return None if app.settings.get("broker_heartbeat") else _set_to(app, "broker_heartbeat")


def _silent_shutdown(facts: Facts) -> str | None:
    app = facts.app
    old = _older(facts, (5, 6, 1))
    if app is None or old is None or app.reliable or app.settings.get("worker_soft_shutdown_timeout"):
        return None
    heartbeat = app.settings.get("broker_heartbeat") or 0
    long = [it.name for it in app.plain if it.acks_late and (it.limit is None or it.limit > 2 * heartbeat)]
    return (
        f"{old}; worker_soft_shutdown_timeout is 0; {some(long)} may take longer"
        if heartbeat and long
        else None
    )


def _gives_up(app: App) -> str | None:
    given = app.settings.get("broker_connection_max_retries")
    return _set_to(app, "broker_connection_max_retries") if given else None


def _channel_errors(app: App) -> str | None:
    if app.settings.get("broker_channel_error_retry"):
        return None
    return _set_to(app, "broker_channel_error_retry")


def _gossip(facts: Facts) -> str | None:
    # A worker that gossips has a queue that is bound to the other workers' events.
    bindings = facts.broker.bindings if facts.broker else ()
    listening = {queue for source, queue, key in bindings if source == "celeryev" and key == "worker.#"}
    if len(listening) <= _MANY_WORKERS:
        return None
    return f"{len(listening)} workers listen to each other's events"


def _rpc(app: App) -> str | None:
    scheme = str(app.settings.get("result_backend") or "").partition(":")[0]
    if scheme not in {"rpc", "amqp"} or all(it.ignore_result for it in app.tasks):
        return None
    return f"result_backend begins with {scheme}://"


def _control_queues(facts: Facts) -> str | None:
    app, version = facts.app, facts.broker_version
    if app is None:
        return None

    def refused(kind: str) -> bool:
        transient = not app.settings.get(f"{kind}_exclusive") and not app.settings.get(f"{kind}_durable")
        return transient and (version is None or version >= (4, 3))

    told = []
    if app.settings.get("worker_enable_remote_control"):
        if app.settings.get("control_queue_exclusive"):
            told.append("control_queue_exclusive is True")
        elif refused("control_queue"):
            told.append("the control queue is neither exclusive nor durable")
    if refused("event_queue"):
        told.append("the event queue is neither exclusive nor durable")
    return " and ".join(told) or None


def _no_pool(app: App) -> str | None:
    return None if app.settings.get("broker_pool_limit") else _set_to(app, "broker_pool_limit")


def _sigterm(facts: Facts) -> str | None:
    container = facts.container
    if container is None or container.remap_sigterm == "SIGQUIT":
        return None
    return f"process 1 is a worker, and REMAP_SIGTERM is {container.remap_sigterm or 'not set'}"


def _never_replaced(facts: Facts) -> str | None:
    app = facts.app
    if app is None or not app.plain or not _has_children(facts):
        return None
    names = ("worker_max_tasks_per_child", "worker_max_memory_per_child")
    return None if any(app.settings.get(it) for it in names) else f"{names[0]} and {names[1]} are not set"


#: What each pool that is not prefork does with time limits (celery/concurrency): gevent keeps the hard one.
_IGNORES = {"threads": True, "thread": True, "eventlet": True, "solo": True, "gevent": False}


def _no_time_limits(facts: Facts) -> str | None:
    for where, pool in _pools(facts).items():
        if pool not in _IGNORES or facts.app is None:
            continue
        ignored = [
            it.name for it in facts.app.tasks if it.soft_time_limit or (_IGNORES[pool] and it.time_limit)
        ]
        if ignored:
            return f"{where} is {pool}, and {some(ignored)} has a time limit"
    return None


def _in_transaction(app: App) -> str | None:
    calls = app.calls_of("in transaction")
    return f"a task is sent inside of a transaction at {places(calls)}" if calls else None


def _overridden(app: App) -> str | None:
    return "; ".join(app.overrides) or None


def _no_host_name(app: App) -> str | None:
    given = app.settings.get("broker_use_ssl")
    tls = app.scheme in {"amqps", "pyamqps"} or bool(given)
    if not tls or app.reliable:  # Baozi's own transport checks it
        return None
    if isinstance(given, dict) and "server_hostname" in given and given.get("cert_reqs"):
        return None
    return "the broker's URL is amqps:// without server_hostname and cert_reqs in broker_use_ssl"


def _malformed(facts: Facts) -> str | None:
    app, broker = facts.app, facts.broker
    if app is None or app.reliable or broker is None or not broker.writers:
        return None
    return f"users that may publish to this app's exchange: {some(broker.writers)}"


# The state now.


def _schema(facts: Facts) -> str | None:
    ledger = facts.ledger
    if ledger is None or ledger.version == ledger.needed:
        return None
    return f"the ledger's schema is version {ledger.version}, and this release needs {ledger.needed}"


def _clock(facts: Facts) -> str | None:
    ahead = facts.ledger.ahead if facts.ledger else None
    if ahead is None or abs(ahead) <= _CLOCKS:
        return None
    return f"the ledger's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"


def _differ(facts: Facts) -> str | None:
    workers = facts.workers or ()
    names = {name for it in workers for name in it.settings} - _OWN_OF_A_WORKER
    told = sorted(
        name for name in names if len({repr(it.settings.get(name)) for it in workers if it.settings}) > 1
    )
    return f"{some(told)} in {some(it.name for it in workers)}" if told else None


def _alarm(facts: Facts) -> str | None:
    return f"alarm on: {some(facts.broker.alarms)}" if facts.broker and facts.broker.alarms else None


def _other_type(facts: Facts) -> str | None:
    return _queues(
        (it, f"the app declares {it.declared_type}, and the broker has {it.type}")
        for it in facts.queues
        if it.seen and it.declared_type is not None and it.declared_type != it.type
    )


_L, _R, _ST, _SL = Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "BZ101",
        _L,
        Sentence(
            "A worker that is killed loses the messages of its tasks: it acknowledges them before they run."
        ),
        Sentence(
            "task_acks_late = True  # the task must allow to be run twice\n"
            "task_reject_on_worker_lost = True\ntask_acks_on_failure = False"
        ),
        f"{_CC}#task-acks-late",
        of_app(_early),
        amqp=False,
    ),
    Rule(
        "BZ102",
        _L,
        Sentence("If a pool process is killed, its message is acknowledged and lost."),
        "task_reject_on_worker_lost = True",
        f"{_CC}#task-reject-on-worker-lost",
        _lost_child,
        amqp=False,
    ),
    Rule(
        "BZ103",
        _R,
        Sentence("A message that kills its process is redelivered endlessly."),
        'Queue(..., queue_arguments={"x-queue-type": "quorum",\n'
        '                            "x-delivery-limit": 20})',
        f"{_CC}#task-reject-on-worker-lost",
        _poison,
    ),
    Rule(
        "BZ104",
        _L,
        Sentence(
            "The message of a failed task is gone: acknowledged, or dropped if there are no dead letters."
        ),
        Sentence("# And declare a dead-letter exchange for the queue.\ntask_acks_on_failure = False"),
        f"{_CELERY}4797",
        _failures,
        Sentence("all; before Celery 5.7 the setting is task_acks_on_failure_or_timeout"),
    ),
    Rule(
        "BZ105",
        _R,
        Sentence("A message whose task always passes its time limit is redelivered endlessly."),
        'Queue(..., queue_arguments={"x-queue-type": "quorum",\n'
        '                            "x-delivery-limit": 20})',
        f"{_CC}#task-acks-on-timeout",
        _hanging,
    ),
    Rule(
        "BZ106",
        _L,
        Sentence(
            "Messages that the broker refuses or never receives are lost, and apply_async reports no error."
        ),
        'broker_transport_options = {"confirm_publish": True,\n'
        '                            "read_timeout": 5, "write_timeout": 5}',
        f"{_CELERY}5410",
        of_app(_unconfirmed),
    ),
    Rule(
        "BZ107",
        _ST,
        Sentence("While the broker has a memory or disk alarm, apply_async waits endlessly for its confirm."),
        'broker_transport_options = {"confirm_publish": True,\n'
        '                            "read_timeout": 5, "write_timeout": 5}',
        f"{_CELERY}9374",
        of_app(_unbounded),
    ),
    Rule(
        "BZ108",
        _L,
        Sentence("A message that no queue takes is dropped, and with confirms it counts as delivered."),
        Sentence(
            "# With confirm_publish, apply_async raises an error.\n"
            'task_annotations = {"*": {"mandatory": True}}'
        ),
        "https://github.com/celery/kombu/issues/572",
        of_app(_not_mandatory),
    ),
    Rule(
        "BZ109",
        _L,
        Sentence(
            "A message over the broker's max_message_size is lost, without confirms also without an error."
        ),
        "",
        "https://github.com/celery/kombu/issues/2336",
        needs="the sizes of the app's messages, and max_message_size, which the management API does not"
        " tell. BZ106 finds missing confirms, without which the loss is silent",
    ),
    Rule(
        "BZ110",
        _L,
        Sentence(
            "A queue that Celery makes is classic: on one node, without delivery limit and dead letters."
        ),
        Sentence(
            'task_default_queue_type = "quorum"  # or each queue in task_queues\n'
            'task_default_exchange_type = "topic"'
        ),
        f"{_CC}#task-default-queue-type",
        _made_by_celery,
    ),
    Rule(
        "BZ111",
        _ST,
        Sentence("A misspelt queue name makes a new queue without consumers, where messages stay unread."),
        "task_create_missing_queues = False",
        f"{_CC}#task-create-missing-queues",
        of_app(_creates_missing),
    ),
    Rule(
        "BZ112",
        _L,
        Sentence("A message that was given back too often is dropped."),
        Sentence(
            "# And bind a queue to that exchange.\n"
            'Queue(..., queue_arguments={"x-dead-letter-exchange": "work.dead"})'
        ),
        f"{_QUORUM}#poison-message-handling",
        _drops_over_limit,
        Sentence("RabbitMQ 4.0 or later; before, queues with x-delivery-limit"),
    ),
    Rule(
        "BZ113",
        _R,
        Sentence("A message that is given back by basic.nack does not count towards the delivery limit."),
        "channel.basic_reject(delivery_tag, requeue=True)",
        f"{_QUORUM}#poison-message-handling",
        _nacks,
        Sentence("RabbitMQ 4.3 or later"),
    ),
    Rule(
        "BZ114",
        _L,
        Sentence("A message is lost if the broker stops while it moves it to the dead letters."),
        'Queue(..., queue_arguments={"x-overflow": "reject-publish",\n'
        '                            "x-dead-letter-strategy": "at-least-once"})',
        f"{_QUORUM}#activating-at-least-once-dead-lettering",
        _at_most_once,
        Sentence("RabbitMQ 3.10 or later"),
    ),
    Rule(
        "BZ115",
        _L,
        Sentence("A queue that is full drops its oldest message."),
        'Queue(..., queue_arguments={"x-overflow": "reject-publish"})',
        "https://www.rabbitmq.com/docs/maxlength",
        _drops_oldest,
    ),
    Rule(
        "BZ116",
        _R,
        Sentence("The broker redelivers a message that a worker holds for longer than the consumer timeout."),
        Sentence("task_time_limit = 1200  # seconds, below the consumer timeout"),
        f"{_CELERY}6760",
        _too_long,
        Sentence("RabbitMQ 3.8.15 or later"),
    ),
    Rule(
        "BZ117",
        _ST,
        Sentence("Delayed messages fill the worker's prefetch, and nothing else runs."),
        Sentence(
            "# Celery then lets the broker hold delayed messages.\n"
            'Queue("work", Exchange("work", type="topic"), ...)'
        ),
        "https://github.com/rabbitmq/rabbitmq-server/issues/11948",
        _blocks,
    ),
    Rule(
        "BZ118",
        _L,
        Sentence("A natively delayed message is dropped at its third retry."),
        "pip install 'celery>=5.6.3'",
        f"{_CELERY}10111",
        _cycles,
        Sentence("Celery 5.5.0 to 5.6.2"),
    ),
    Rule(
        "BZ119",
        _SL,
        Sentence("A worker holds each delayed message in its memory."),
        "worker_eta_task_limit = 1000",
        f"{_CC}#worker-eta-task-limit",
        _held_in_memory,
    ),
    Rule(
        "BZ120",
        _SL,
        Sentence("After a reconnection a worker stays at a reduced prefetch, and its pool is partly idle."),
        "worker_enable_prefetch_count_reduction = False",
        f"{_CELERY}9512",
        _stays_reduced,
        Sentence("Celery 5.3 to 5.6, quorum queues"),
    ),
    Rule(
        "BZ121",
        _SL,
        Sentence("Messages wait behind a long task in one worker while others are idle."),
        "worker_prefetch_multiplier = 1",
        f"{_CC}#worker-prefetch-multiplier",
        of_app(_prefetches),
        amqp=False,
    ),
    Rule(
        "BZ122",
        _R,
        Sentence("After a lost connection a task goes on while its redelivered message runs beside it."),
        "worker_cancel_long_running_tasks_on_connection_loss = True",
        f"{_CC}#worker-cancel-long-running-tasks-on-connection-loss",
        of_app(_not_cancelled),
    ),
    Rule(
        "BZ123",
        _ST,
        Sentence("A worker does not notice a connection that a firewall or a load balancer has dropped."),
        "broker_heartbeat = 120",
        f"{_CELERY}2236",
        of_app(_no_heartbeat),
    ),
    Rule(
        "BZ124",
        _R,
        Sentence(
            "A worker sends no heartbeat during a warm shutdown, and the broker redelivers what it finishes."
        ),
        Sentence("worker_soft_shutdown_timeout = 20  # and REMAP_SIGTERM=SIGQUIT"),
        f"{_CELERY}5998",
        _silent_shutdown,
        Sentence("Celery before 5.6.1"),
    ),
    Rule(
        "BZ125",
        _ST,
        Sentence("A worker ends if the broker is away for too long."),
        "broker_connection_max_retries = None",
        f"{_CC}#broker-connection-max-retries",
        of_app(_gives_up),
    ),
    Rule(
        "BZ126",
        _ST,
        Sentence("A worker ends when the broker closes one of its channels."),
        "broker_channel_error_retry = True",
        f"{_CC}#broker-channel-error-retry",
        of_app(_channel_errors),
    ),
    Rule(
        "BZ127",
        _SL,
        Sentence("N workers send each other N²/2 messages a second."),
        "celery worker --without-gossip --without-mingle --without-heartbeat",
        f"{_CELERY}5079",
        _gossip,
    ),
    Rule(
        "BZ128",
        _SL,
        Sentence("The result backend makes a queue for each client, and a client behind a proxy can hang."),
        Sentence("task_ignore_result = True  # or a database as result_backend"),
        f"{_CELERY}3956",
        of_app(_rpc),
    ),
    Rule(
        "BZ129",
        _ST,
        Sentence("A restarted worker is locked out of its control queue, or RabbitMQ 4.3 refuses the queue."),
        "control_queue_exclusive = False\ncontrol_queue_durable = True\nevent_queue_exclusive = True",
        f"{_CELERY}10287",
        _control_queues,
        Sentence("Celery 5.7; transient queues: RabbitMQ 4.3 or later"),
    ),
    Rule(
        "BZ130",
        _SL,
        Sentence("Each apply_async opens a connection of its own."),
        "broker_pool_limit = 10",
        f"{_CC}#broker-pool-limit",
        of_app(_no_pool),
    ),
    Rule(
        "BZ131",
        _R,
        Sentence("A container's stop kills tasks that a warm shutdown still waits for."),
        Sentence(
            "REMAP_SIGTERM=SIGQUIT  # in the environment of the container\n"
            "worker_soft_shutdown_timeout = 20  # below the grace period"
        ),
        "https://docs.celeryq.dev/en/stable/userguide/workers.html#soft-shutdown",
        _sigterm,
        Sentence("Celery 5.5 or later"),
        amqp=False,
    ),
    Rule(
        "BZ132",
        _SL,
        Sentence("Pool processes are never replaced, so that memory which they do not give back grows."),
        Sentence("worker_max_memory_per_child = 500_000  # kilobytes"),
        f"{_CELERY}4843",
        _never_replaced,
        amqp=False,
    ),
    Rule(
        "BZ133",
        _ST,
        Sentence("The worker's pool ignores the tasks' time limits."),
        "celery worker --pool prefork",
        f"{_CELERY}6552",
        _no_time_limits,
        Sentence("threads, eventlet and solo; gevent ignores the soft limit"),
        amqp=False,
    ),
    Rule(
        "BZ134",
        _R,
        Sentence("An autoscaler that counts ready messages only stops workers that are busy."),
        "",
        "https://github.com/kedacore/keda/issues/356",
        needs="the autoscaler's configuration, such as KEDA's ScaledObject, which neither app nor broker has",
    ),
    Rule(
        "BZ135",
        _L,
        Sentence(
            "A task that is sent inside a transaction runs before the commit, or even if it is rolled back."
        ),
        Sentence(
            "# Or an outbox: a process may die after the commit.\n"
            "transaction.on_commit(partial(task.delay, ...))"
        ),
        "https://github.com/RealOrangeOne/django-tasks/issues/189",
        of_app(_in_transaction),
        amqp=False,
    ),
    Rule(
        "BZ136",
        _L,
        Sentence(
            "Celery uses the broker that a variable of the environment names, and not the app's own setting."
        ),
        Sentence('broker_url = os.environ["CELERY_BROKER_URL"]  # one source'),
        f"{_CELERY}4284",
        of_app(_overridden),
        amqp=False,
    ),
    Rule(
        "BZ137",
        _L,
        Sentence("Any server with a certificate of the same authority gets the password and the messages."),
        'broker_use_ssl = {"ca_certs": "ca.pem", "cert_reqs": ssl.CERT_REQUIRED,\n'
        '                  "server_hostname": "broker.example"}',
        f"{_CC}#broker-use-ssl",
        of_app(_no_host_name),
    ),
    Rule(
        "BZ138",
        _ST,
        Sentence("A small compressed message inflates in the worker's memory without a limit."),
        "",
        "https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.compression.html",
        needs="which of the clients that may publish are trusted: no setting of Celery refuses or limits"
        " compression. A Reliable limits it. BZ139 names the users that may publish",
    ),
    Rule(
        "BZ139",
        _ST,
        Sentence("A message with a malformed header ends a worker, and then the next one."),
        Sentence(
            "# Or let only trusted users publish.\nReliable(app, queue=...)  # checks the headers first"
        ),
        "docs/reliability.md",
        _malformed,
        Sentence("Celery 5.7.0 and before (tried with 5.7.0)"),
    ),
    Rule(
        "BZ201",
        _ST,
        Sentence("Workers and commands of this release cannot use the ledger."),
        Sentence("baozi ledger upgrade  # or install the release that upgraded it"),
        "docs/how-to/upgrade.md",
        _schema,
        amqp=False,
    ),
    Rule(
        "BZ202",
        _SL,
        Sentence("Times in the ledger, ETAs and expiries are wrong by the difference between the clocks."),
        "timedatectl set-ntp true",
        "docs/audit.md",
        _clock,
        amqp=False,
    ),
    Rule(
        "BZ203",
        _ST,
        Sentence("Workers of one app have different settings, so a message's result depends on the worker."),
        Sentence("Deploy one release of the settings to each worker"),
        _CC,
        _differ,
        amqp=False,
    ),
    Rule(
        "BZ204",
        _ST,
        Sentence("The broker accepts no messages until an alarm ends."),
        Sentence("Free memory or disk space on the node; consume the waiting messages"),
        "https://www.rabbitmq.com/docs/alarms",
        _alarm,
    ),
    Rule(
        "BZ205",
        _ST,
        Sentence("A worker cannot start: it declares a queue that the broker has with another type."),
        Sentence("rabbitmqctl delete_queue NAME  # when it is empty; or declare its type"),
        f"{_QUORUM}#declaring",
        _other_type,
    ),
)
