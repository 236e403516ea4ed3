"""Each rule of `baozi doctor` on a small app that has its danger, and on the same app without it."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue

from baozi.doctor import application, source
from baozi.doctor.examination import findings
from baozi.doctor.facts import BrokerFacts, Container, Facts, LedgerFacts, WorkerFacts
from baozi.doctor.rules import RULES

CONFIRMED = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}
QUORUM = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 5,
    "x-dead-letter-exchange": "work.dead",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}
CLASSIC = {"x-dead-letter-exchange": "work.dead"}
#: An app on which no rule has anything to say.
SOUND: dict[str, Any] = {
    "broker_url": "amqp://u:secret@localhost//",
    "broker_transport_options": CONFIRMED,
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,
    "control_queue_exclusive": False,
    "control_queue_durable": True,
    "task_default_queue": "work",
    "task_default_exchange_type": "topic",
    "task_create_missing_queues": False,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_acks_on_failure": False,
    "task_acks_on_timeout": False,
    "task_time_limit": 50,
    "task_annotations": {"*": {"mandatory": True}},
    "worker_prefetch_multiplier": 1,
    "worker_soft_shutdown_timeout": 20,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_max_memory_per_child": 500_000,
}
#: What the main process sends again itself, so that nothing is rejected if a pool process is lost.
RESENT = {"task_reject_on_worker_lost": False, "task_retry_on_worker_lost": True}

WAITS = "def later(task):\n    task.apply_async(countdown=5)\n"
AUTORETRY = """
@app.task(name="{name}.ask", shared=False, autoretry_for=(OSError,), retry_backoff=True)
def ask():
    pass
"""
RETRIES = "def run(self):\n    raise self.retry(countdown=60)\n"


@dataclass(frozen=True)
class Made:
    """What is made otherwise than in the sound app."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] | None = field(default_factory=lambda: QUORUM)
    """The queue's; None for an app that leaves its queue to Celery."""
    exchange: str = "topic"
    code: str = ""
    broker: BrokerFacts | None = None
    workers: tuple[WorkerFacts, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    """Other facts."""
    overrides: tuple[str, ...] = ()


def setting(**changes: Any) -> Made:
    return Made(settings=changes)


def queue(arguments: Mapping[str, Any] | None = None, without: str = "", **more: Any) -> Made:
    return Made(
        arguments={name: it for name, it in {**QUORUM, **(arguments or {})}.items() if name != without},
        **more,
    )


def worker(release: str, name: str = "w@h", **settings: Any) -> WorkerFacts:
    return WorkerFacts(name, release, "prefork", settings)


def listening(workers: int) -> BrokerFacts:
    return BrokerFacts(
        "4.3.6", bindings=tuple(("celeryev", f"celeryev.{n}", "worker.#") for n in range(workers))
    )


NO_REDUCTION = {"worker_enable_prefetch_count_reduction": False}
IN_TRANSACTION = """
from django.db import transaction
def buy(task):
    with transaction.atomic():
        task.delay(1)
"""
AFTER_COMMIT = """
from django.db import transaction
def buy(task):
    with transaction.atomic():
        transaction.on_commit(lambda: task.delay(1))
    task.delay(2)
"""
TLS = {"cert_reqs": 2, "server_hostname": "broker.example"}
#: The rule, an app that has its danger, and the same one mended.
CASES: list[tuple[str, Made, Made]] = [
    ("BZ101", setting(task_acks_late=False), setting(task_acks_late=True)),
    ("BZ102", setting(task_reject_on_worker_lost=False), setting(**RESENT)),
    (
        "BZ103",
        Made(arguments=CLASSIC),
        Made(arguments=CLASSIC, settings={**RESENT, "task_acks_on_timeout": True}),
    ),
    (
        "BZ103",
        queue(without="x-delivery-limit", broker=BrokerFacts("3.10.8")),
        queue(broker=BrokerFacts("3.10.8")),
    ),
    (
        "BZ103",
        queue({"x-delivery-limit": -1}),
        queue(without="x-delivery-limit", broker=BrokerFacts("4.3.6")),
    ),
    ("BZ104", setting(task_acks_on_failure=True), setting(task_acks_on_failure=False)),
    (
        "BZ104",
        Made(arguments={}, settings={**RESENT, "task_acks_on_timeout": True}),
        Made(arguments=CLASSIC, settings={**RESENT, "task_acks_on_timeout": True}),
    ),
    ("BZ105", queue({"x-delivery-limit": -1}, settings=RESENT), queue(settings=RESENT)),
    ("BZ106", setting(broker_transport_options={}), setting(broker_transport_options=CONFIRMED)),
    ("BZ107", setting(broker_transport_options={"confirm_publish": True}), setting()),
    ("BZ108", setting(task_annotations=None), setting(task_annotations={"*": {"mandatory": True}})),
    ("BZ110", Made(arguments=None), Made(arguments=QUORUM)),
    ("BZ111", setting(task_create_missing_queues=True), setting(task_create_missing_queues=False)),
    ("BZ112", queue(without="x-dead-letter-exchange"), queue({"x-dead-letter-exchange": "other"})),
    (
        "BZ112",
        Made(broker=BrokerFacts("4.3.6", exchanges={"work": "topic"})),
        Made(
            broker=BrokerFacts(
                "4.3.6", exchanges={"work.dead": "topic"}, bindings=(("work.dead", "work.dead", "#"),)
            )
        ),
    ),
    (
        "BZ113",
        Made(code="def back(channel):\n    channel.basic_nack(1)\n", broker=BrokerFacts("4.3.6")),
        Made(code="def back(channel):\n    channel.basic_reject(1, True)\n", broker=BrokerFacts("4.3.6")),
    ),
    ("BZ114", queue(without="x-dead-letter-strategy"), queue()),
    ("BZ114", queue(without="x-overflow"), queue()),
    ("BZ115", queue({"x-max-length": 3, "x-overflow": "drop-head"}), queue({"x-max-length": 3})),
    ("BZ116", setting(task_time_limit=3000), setting(task_time_limit=1200)),
    ("BZ116", setting(task_time_limit=None), setting(task_time_limit=None, task_soft_time_limit=40)),
    ("BZ116", queue({"x-consumer-timeout": 40_000}), queue({"x-consumer-timeout": 60_000})),
    ("BZ117", Made(exchange="direct", code=WAITS), Made(exchange="topic", code=WAITS)),
    ("BZ117", Made(exchange="direct", code=AUTORETRY), Made(exchange="topic", code=AUTORETRY)),
    (
        "BZ118",
        Made(code=RETRIES, settings=NO_REDUCTION, workers=(worker("5.6.2"),)),
        Made(code=RETRIES, settings=NO_REDUCTION, workers=(worker("5.7.0"),)),
    ),
    (
        "BZ119",
        Made(arguments=CLASSIC, settings={**RESENT, "task_acks_on_timeout": True}, code=WAITS),
        Made(
            arguments=CLASSIC,
            settings={**RESENT, "task_acks_on_timeout": True, "worker_eta_task_limit": 1000},
            code=WAITS,
        ),
    ),
    (
        "BZ120",
        Made(workers=(worker("5.6.3"),)),
        Made(workers=(worker("5.6.3"),), settings=NO_REDUCTION),
    ),
    (
        "BZ121",
        setting(worker_prefetch_multiplier=4, task_time_limit=600),
        setting(worker_prefetch_multiplier=4, task_time_limit=30),
    ),
    ("BZ121", setting(worker_prefetch_multiplier=0), setting(worker_prefetch_multiplier=1)),
    ("BZ122", setting(worker_cancel_long_running_tasks_on_connection_loss=False), setting()),
    ("BZ123", setting(broker_heartbeat=0), setting(broker_heartbeat=60)),
    (
        "BZ124",
        Made(
            settings={**NO_REDUCTION, "worker_soft_shutdown_timeout": 0, "task_time_limit": 600},
            workers=(worker("5.6.0"),),
        ),
        Made(
            settings={**NO_REDUCTION, "worker_soft_shutdown_timeout": 0, "task_time_limit": 600},
            workers=(worker("5.6.1"),),
        ),
    ),
    ("BZ125", setting(broker_connection_max_retries=100), setting(broker_connection_max_retries=0)),
    ("BZ126", setting(broker_channel_error_retry=False), setting(broker_channel_error_retry=True)),
    ("BZ127", Made(broker=listening(31)), Made(broker=listening(30))),
    ("BZ128", setting(result_backend="rpc://"), setting(result_backend="rpc://", task_ignore_result=True)),
    ("BZ129", setting(control_queue_exclusive=True, control_queue_durable=False), setting()),
    (
        "BZ129",
        Made(settings={"control_queue_durable": False}, broker=BrokerFacts("4.3.6")),
        Made(settings={"control_queue_durable": False}, broker=BrokerFacts("4.2.1")),
    ),
    ("BZ130", setting(broker_pool_limit=0), setting(broker_pool_limit=5)),
    (
        "BZ131",
        Made(more={"container": Container()}),
        Made(more={"container": Container("SIGQUIT")}),
    ),
    ("BZ132", setting(worker_max_memory_per_child=None), setting(worker_max_tasks_per_child=100)),
    ("BZ133", setting(worker_pool="threads"), setting(worker_pool="prefork")),
    (
        "BZ133",
        Made(workers=(WorkerFacts("w", "5.7.0", "solo"),)),
        Made(workers=(WorkerFacts("w", "5.7.0", "gevent"),)),
    ),
    ("BZ135", Made(code=IN_TRANSACTION), Made(code=AFTER_COMMIT)),
    ("BZ136", Made(overrides=("CELERY_BROKER_URL=amqp://other//",)), Made()),
    (
        "BZ137",
        setting(broker_url="amqps://u:secret@h//"),
        setting(broker_url="amqps://u:secret@h//", broker_use_ssl=TLS),
    ),
    (
        "BZ139",
        Made(broker=BrokerFacts("4.3.6", writers=frozenset({"guest"}))),
        Made(broker=BrokerFacts("4.3.6")),
    ),
    ("BZ201", Made(more={"ledger": LedgerFacts(3, 4)}), Made(more={"ledger": LedgerFacts(4, 4)})),
    ("BZ202", Made(more={"ledger": LedgerFacts(4, 4, 9.0)}), Made(more={"ledger": LedgerFacts(4, 4, -0.5)})),
    (
        "BZ203",
        Made(workers=(worker("5.7.0", "a", task_time_limit=1), worker("5.7.0", "b", task_time_limit=2))),
        Made(workers=(worker("5.7.0", "a", task_time_limit=1), worker("5.7.0", "b", task_time_limit=1))),
    ),
    (
        "BZ204",
        Made(broker=BrokerFacts("4.3.6", alarms=("memory on rabbit@a",))),
        Made(broker=BrokerFacts("4.3.6")),
    ),
    (
        "BZ205",
        Made(broker=BrokerFacts("4.3.6", queues={"work": {**QUORUM, "x-queue-type": "stream"}})),
        Made(broker=BrokerFacts("4.3.6", queues={"work": QUORUM})),
    ),
]

APP = """
from celery import Celery
app = Celery("{name}", set_as_current=False)
@app.task(name="{name}.add", shared=False)
def add(x):
    return x
"""


class Apps:
    """Makes apps, each a module of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names: list[str] = []

    def make(
        self, made: Made, code: str = APP, settings: Mapping[str, Any] | None = None
    ) -> tuple[Celery, str]:
        """Make the app that ``made`` describes, or one of ``code`` with no more than ``settings``."""
        name = f"made_for_doctor_{len(self.names)}"
        self.names.append(name)
        (self._folder / f"{name}.py").write_text((code + made.code).format(name=name))
        importlib.invalidate_caches()
        app: Celery = importlib.import_module(name).app
        queues = None
        if made.arguments is not None:
            exchange = Exchange("work", type=made.exchange)
            queues = [Queue("work", exchange, routing_key="work", queue_arguments=dict(made.arguments))]
        app.conf.update({**SOUND, "task_queues": queues, **made.settings} if settings is None else settings)
        app.finalize()
        return app, name

    def facts(self, made: Made) -> Facts:
        app, name = self.make(made)
        read = replace(application.read(app, name), overrides=made.overrides)
        workers = made.workers or None
        return Facts(app=read, broker=made.broker, workers=workers, celery="5.7.0", **made.more)


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apps]:
    monkeypatch.syspath_prepend(str(tmp_path))
    # Apps of this process have their own tasks only: pytest's plug-in for Celery shares some with each.
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    made = Apps(tmp_path)
    # Django is not installed here, and its name is all that the rule reads.
    monkeypatch.setitem(sys.modules, "django", type(sys)("django"))
    monkeypatch.setitem(sys.modules, "django.db", type(sys)("django.db"))
    monkeypatch.setattr(sys.modules["django.db"], "transaction", None, raising=False)
    yield made
    for name in made.names:
        sys.modules.pop(name, None)


def ids(facts: Facts) -> list[str]:
    return [it.rule.id for it in findings(facts)]


@pytest.mark.parametrize(
    ("rule", "wrong", "right"), CASES, ids=[f"{rule}-{n}" for n, (rule, _, _) in enumerate(CASES)]
)
def test_a_rule_finds_only_its_danger_and_nothing_in_the_corrected_app(
    rule: str, wrong: Made, right: Made, apps: Apps
) -> None:
    assert ids(apps.facts(wrong)) == [rule]
    assert ids(apps.facts(right)) == []


def test_each_rule_that_can_see_its_danger_is_tried() -> None:
    assert {rule for rule, _, _ in CASES} == {it.id for it in RULES if it.check is not None}


def test_the_rules_are_the_39_dangers_in_order_and_five_about_the_state_now() -> None:
    assert [it.id for it in RULES] == [f"BZ{101 + n}" for n in range(39)] + [f"BZ{201 + n}" for n in range(5)]


@pytest.mark.parametrize("rule", RULES, ids=[it.id for it in RULES])
def test_a_rule_says_all_that_a_finding_needs(rule: Any) -> None:
    assert rule.sentence.endswith(".")
    assert rule.sentence[0].isupper()
    assert rule.source
    # Without a check it says what it would need, and with one what to write.
    assert bool(rule.needs) is (rule.check is None)
    assert bool(rule.instead) is (rule.check is not None)
    # It is copied, so it is printed unbroken, also on a terminal of 80 columns.
    assert max(map(len, rule.instead.split("\n"))) <= 71


PLAIN = """
from celery import Celery
app = Celery("{name}", broker="amqp://guest:guest@localhost//", backend="rpc://", set_as_current=False)
@app.task(name="{name}.add", shared=False)
def add(x):
    return x
"""


def test_the_advised_lines_leave_a_plain_app_without_a_finding(apps: Apps) -> None:
    def examined(more: Mapping[str, Any]) -> tuple[set[str], dict[str, Any]]:
        app, name = apps.make(Made(), PLAIN, more)
        found = findings(Facts(app=application.read(app, name), celery="5.7.0"))
        lines = "\n".join(it.rule.instead for it in found if "Queue(" not in it.rule.instead)
        advised: dict[str, Any] = {}
        exec(lines, advised)  # noqa: S102  # settings, as they stand in celeryconfig.py
        return {it.rule.id for it in found}, {it: advised[it] for it in advised if it[0].islower()}

    first, settings = examined({})
    assert {"BZ101", "BZ106", "BZ108", "BZ110", "BZ125", "BZ126"} <= first
    # Late acknowledgement, for example, needs a time limit, which is another finding.
    found = first
    for _ in range(3):
        found, more = examined(settings)
        settings |= more
    assert found == {"BZ112"}
    work = Queue("celery", Exchange("celery", type="topic"), routing_key="celery", queue_arguments=QUORUM)
    assert examined(settings | {"task_queues": [work]})[0] == set()


def test_on_redis_the_rules_about_rabbitmq_are_left_out(apps: Apps) -> None:
    made = setting(
        broker_url="redis://:secret@localhost/0", task_acks_late=False, broker_connection_max_retries=100
    )
    assert ids(apps.facts(made)) == ["BZ101"]


def made_often() -> None:
    """The function of many tasks."""


def test_three_hundred_tasks_are_one_finding_with_three_names(apps: Apps) -> None:
    app, name = apps.make(setting(task_acks_late=False))
    for number in range(299):
        app.task(name=f"t{number:03}", shared=False)(made_often)
    (found,) = findings(Facts(app=application.read(app, name), celery="5.7.0"))
    assert found.evidence.startswith("task_acks_late is off for 300 of 300 tasks: made_for_doctor_")
    assert found.evidence.endswith("and 297 more")


def test_no_password_is_in_any_evidence(apps: Apps) -> None:
    made = Made(overrides=("CELERY_BROKER_URL=amqp://a:hidden/@b//, own amqp://a:sec/ret@h",))
    (found,) = findings(apps.facts(made))
    assert "hidden" not in found.evidence
    assert "ret" not in found.evidence


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        ("task.delay()", []),
        ("task.apply_async(eta=when)", ["delay"]),
        ("self.retry()", ["delay"]),
        ("client.retry()", []),
        ("with engine.begin() as tx:\n    task.delay()", ["in transaction"]),
        ("with open(file):\n    task.delay()", []),
        ("with atomic():\n    def later():\n        task.delay()", []),
        ("@transaction.atomic\ndef buy():\n    task.delay()", ["in transaction"]),
        ("with transaction.atomic():\n    transaction.on_commit(lambda: task.delay())", []),
        ("with transaction.atomic():\n    task.apply_async(countdown=60)", ["in transaction", "delay"]),
        ("this is no Python", []),
    ],
)
def test_calls_are_found_in_the_source(code: str, kinds: list[str], tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(code)
    found = source.calls_in(file, "pkg.shop")
    assert [it.kind for it in found] == kinds
    assert all(it.place.startswith("pkg/shop.py:") for it in found)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("2 * 3600", 7200), ("wait", None), ("'5'", None)])
def test_a_countdown_is_read_if_it_is_a_number(text: str, seconds: float | None, tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(f"task.apply_async(countdown={text})")
    (found,) = source.calls_in(file, "shop")
    assert found.seconds == seconds
