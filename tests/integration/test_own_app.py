"""An existing Celery app, and the same app with ``Reliable``: the smallest example."""

import difflib
import os
import shutil
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.running import run
from tests.waiting import wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_app"


def changed_lines() -> list[str]:
    before, after = ((EXAMPLE / name).read_text().splitlines() for name in ("before.py", "after.py"))
    return [line for line in difflib.ndiff(before, after) if line[0] in "+-"]


def test_reliable_is_added_to_an_app_in_fewer_than_ten_lines() -> None:
    changes = changed_lines()
    assert any("Reliable(app" in line for line in changes)
    assert len(changes) < 10, "\n".join(changes)


@pytest.mark.parametrize(("module", "queue", "booked"), [("before", "celery", 3), ("after", "shop", 2)])
def test_an_order_that_is_sent_twice_is_booked_once_only_with_reliable(
    private_place: Place, module: str, queue: str, booked: int
) -> None:
    home = private_place.home
    shutil.copy(EXAMPLE / f"{module}.py", home)
    # The app names a broker in its code. Celery's own variable comes first.
    environment = {"CELERY_BROKER_URL": private_place.url, "PYTHONPATH": str(home)}
    # RabbitMQ 4.3 refuses some of plain Celery's queues, so this runs on the private node.
    arguments = ["celery", "--quiet", "-A", module, "worker", "-n", "clerk@%h", "-c", "1"]
    worker = private_place.process_group.start("worker", "clerk", arguments, environment, home)
    wait_until(lambda: queue_state(private_place.url, queue)[1], "the worker to consume", timeout=60)
    sent = run([sys.executable, f"{module}.py"], 60, home, {**os.environ, **environment})
    assert (sent.returncode, sent.stderr) == (0, "")
    engine = create_engine(f"sqlite:///{home / 'shop.sqlite3'}")
    with engine.connect() as connection:

        def all_executed() -> bool:
            counted = (
                "SELECT sum(deliveries) FROM done" if module == "after" else "SELECT count(*) FROM payments"
            )
            executed = connection.execute(text(counted)).scalar_one()
            connection.rollback()
            return executed == 3 and "Hello Egon" in worker.log.read_text()

        wait_until(all_executed, "all messages to be executed", timeout=60)
        rows = connection.execute(text("SELECT order_id, amount FROM payments ORDER BY order_id")).all()
    assert len(rows) == booked
    assert set(rows) == {("o-1", 42), ("o-2", 42)}
    engine.dispose()
