"""`baozi.testing` without workers."""

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery

from baozi.errors import UsageError
from baozi.testing import Faults, RunningTask, running
from baozi.testing import workers as workers_module
from baozi.testing.condition import ActiveTasks
from tests.running import run

CHARGE = RunningTask("shop.charge", "1", "celery@here", os.getpid())


class Hit:
    """Workers that note what is done to them."""

    def __init__(self) -> None:
        self.app: Any = Celery("hit", broker="amqp://", set_as_current=False)
        self.killed: list[RunningTask] = []

    def kill(self, task: RunningTask) -> None:
        self.killed.append(task)

    kill_pool_process = kill

    def stop(self, task: RunningTask, grace: float) -> None:
        raise NotImplementedError

    def freeze(self, task: RunningTask, seconds: float) -> None:
        raise NotImplementedError


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[RunningTask]:
    """What the workers execute."""
    tasks: list[RunningTask] = []
    monkeypatch.setattr(ActiveTasks, "now", lambda _: tasks)
    return tasks


def test_the_block_ends_after_the_fault_was_injected(executed: list[RunningTask]) -> None:
    hit = Hit()
    with Faults(hit).kill_worker_while(running("shop.charge")) as fault:
        executed.append(RunningTask("shop.mail", "0", "celery@here", 1))
        executed.append(CHARGE)
    assert hit.killed == [CHARGE]
    assert fault.task == CHARGE


def test_an_error_of_the_block_is_raised_at_once_and_nothing_is_hit(executed: list[RunningTask]) -> None:
    hit = Hit()
    with pytest.raises(ValueError, match="the block's own"):  # noqa: SIM117  # one of them is what is tested
        with Faults(hit).kill_worker_while(running("shop.charge"), within=100):
            raise ValueError("the block's own")
    executed.append(CHARGE)
    assert hit.killed == []


@pytest.mark.usefixtures("executed")
def test_a_fault_of_the_broker_needs_the_broker_of_the_test() -> None:
    for name in ("cut_connections_while", "freeze_connections_while", "restart_broker_while"):
        with pytest.raises(UsageError, match="Use the fixture faulty_broker"):
            getattr(Faults(Hit()), name)(running("shop.charge"))


def test_a_process_that_the_test_has_not_started_is_not_hit() -> None:
    parent = psutil.Process().parent()
    assert parent is not None
    workers = workers_module.ProcessWorkers(Hit().app)
    with pytest.raises(UsageError, match=f"Process {parent.pid} executes the task, and this test has not"):
        workers.kill_pool_process(RunningTask("shop.charge", "1", "celery@here", parent.pid))


def test_nobody_loads_it_who_does_not_name_it() -> None:
    assert not [it for it in entry_points(group="pytest11") if it.value.startswith("baozi")]
    program = "import sys, baozi, baozi.__main__; sys.exit('baozi.testing' in sys.modules)"
    assert run([sys.executable, "-c", program], 60).returncode == 0


def test_a_test_must_name_its_workers(tmp_path: Path) -> None:
    lines = ["pytest_plugins = ['baozi.testing.fixtures']", "def test_it(faults): ..."]
    (tmp_path / "test_it.py").write_text("\n".join(lines))
    done = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], 60, tmp_path)
    assert "Define a fixture workers_under_fault that returns ProcessWorkers(app)" in done.stdout
