"""An app's own tasks keep their queues and routes; reliable tasks go to the guarded queue."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from baozi import Reliable
from baozi.reliable import _guarded


@pytest.fixture
def app() -> Celery:
    return Celery("shop", broker="memory://", set_as_current=False)


@pytest.fixture
def reliable(app: Celery) -> Iterator[Reliable]:
    made = Reliable(app, queue="routed", ledger="sqlite:///shop.sqlite3")
    made.task(name="shop.charge")(nothing)
    app.task(name="shop.plain", shared=False)(nothing)
    yield made
    del _guarded["routed"]


def nothing() -> None:
    """Do nothing."""


def queue_of(app: Any, task: str) -> str:
    route = app.amqp.router.route({}, task, (), {}, task_type=app.tasks[task])
    return str(route["queue"].name)


@pytest.mark.usefixtures("reliable")
def test_only_reliable_tasks_go_to_the_guarded_queue(app: Celery) -> None:
    assert queue_of(app, "shop.charge") == "routed"
    assert queue_of(app, "shop.plain") == "celery"


@pytest.mark.usefixtures("reliable")
def test_a_route_of_the_app_leads_no_reliable_task_elsewhere(app: Celery) -> None:
    app.conf["task_routes"] = {"shop.*": {"queue": "elsewhere"}}
    assert queue_of(app, "shop.charge") == "routed"
    assert queue_of(app, "shop.plain") == "elsewhere"


@pytest.mark.usefixtures("reliable")
def test_a_worker_consumes_the_guarded_queue_beside_the_apps_own(app: Any) -> None:
    assert set(app.amqp.queues.consume_from) == {"celery", "routed"}


def test_another_app_of_the_process_has_none_of_the_tasks(reliable: Reliable) -> None:
    other = Celery("other", broker="memory://", set_as_current=False)
    assert "shop.charge" in reliable.app.tasks
    assert not {"shop.charge", "baozi.close_order"} & set(other.tasks)


def test_celery_makes_no_default_queue_where_the_settings_name_queues(app: Any) -> None:
    # As long as this is so, a queue in the settings would take their default queue from the app's own tasks.
    app.conf["task_queues"] = [Queue("one")]
    assert set(app.amqp.queues) == {"one"}
