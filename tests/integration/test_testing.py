"""`baozi.testing`: each fault meets a task that a real worker executes, and the page's own test passes."""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery

from baozi.prove.lab_broker import LabBroker
from baozi.testing import FaultNotInjected, Faults, FaultyBroker, running, started_workers
from baozi.testing.faulty_broker import behind_a_proxy
from tests.integration.rabbitmq import Node
from tests.running import run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "test-under-faults.md"
#: How long the task of these tests takes: long enough that a worker is asked while it runs.
SECONDS = 1.5
APP = f"""
import time
from celery import Celery
app = Celery("faulted", backend="db+sqlite:///results.sqlite3")
app.conf.task_acks_late = app.conf.task_reject_on_worker_lost = True
@app.task(name="faulted.work")
def work(number):
    time.sleep({SECONDS})
    return number
"""
#: Added to the page's test.
RESTART = """

def test_an_order_is_charged_although_the_broker_is_killed(faults):
    with faults.restart_broker_while(running("shop.charge")):
        result = charge.delay("o-2")
    assert result.get(timeout=60) == "o-2 is charged"
"""


class Worker:
    """One worker, its broker, and the app that calls its task."""

    def __init__(self, private: Node, folder: Path, stack: ExitStack) -> None:
        (folder / "faulted.py").write_text(APP)
        results = f"db+sqlite:///{folder / 'results.sqlite3'}"
        self.app: Any = Celery("caller", backend=results, set_as_current=False)
        self.broker: FaultyBroker = stack.enter_context(
            behind_a_proxy(LabBroker(private.url, private.management_url))
        )
        command = f"{sys.executable} -m celery --workdir {folder} -A faulted worker -c 1"
        workers = stack.enter_context(started_workers(self.app, command, self.broker, folder))
        self.faults = Faults(workers, self.broker)

    def call(self, number: int) -> Any:
        return self.app.send_task("faulted.work", [number])


@pytest.fixture(scope="module")
def worker(private: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with ExitStack() as stack:
        yield Worker(private, tmp_path_factory.mktemp("worker"), stack)


def test_a_pool_process_that_is_killed_has_its_task_executed_again(worker: Worker) -> None:
    with worker.faults.kill_pool_process_while(running("faulted.work")) as fault:
        result = worker.call(1)
    assert result.get(timeout=60) == 1
    assert fault.task is not None
    assert fault.task.id == result.id
    assert not psutil.pid_exists(fault.task.process)


def test_connections_that_are_cut_lose_no_task(worker: Worker) -> None:
    with worker.faults.cut_connections_while(running("faulted.work")):
        result = worker.call(2)
    assert result.get(timeout=60) == 2


@pytest.mark.parametrize("fault", ["freeze_worker_while", "freeze_connections_while"])
def test_a_worker_or_a_network_is_frozen_for_the_given_time(worker: Worker, fault: str) -> None:
    began = time.monotonic()
    with getattr(worker.faults, fault)(running("faulted.work"), seconds=2):
        result = worker.call(3)
    assert time.monotonic() > began + 2
    assert result.get(timeout=60) == 3


def test_a_task_that_does_not_run_in_time_fails_the_test_with_what_was_awaited(worker: Worker) -> None:
    wanted = r"^Waited 1 s in vain for faulted\.other to run\. .* answered: under-fault-0@.* faulted\.work\.$"
    with (
        pytest.raises(FaultNotInjected, match=wanted),
        worker.faults.kill_worker_while(running("faulted.other"), within=1),
    ):
        result = worker.call(4)
    assert result.get(timeout=60) == 4


# The last test of the worker: it is stopped here.


def test_a_stopped_worker_finishes_its_task_first(worker: Worker) -> None:
    with worker.faults.stop_worker_while(running("faulted.work"), grace=30) as fault:
        result = worker.call(6)
    assert fault.task is not None
    assert not psutil.pid_exists(fault.task.process)
    assert result.get(timeout=10) == 6


@pytest.mark.timeout(300)
def test_the_page_s_test_passes_and_so_does_one_whose_broker_is_killed(tmp_path: Path) -> None:
    shop, test = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "test_shop.py").write_text(test + RESTART)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_shop.py"]
    # Without the options of the run that this test belongs to.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    done = run(command, 200, tmp_path, environment)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "2 passed" in done.stdout
