"""The workers that a fault hits: processes that the test started."""

import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psutil
from celery import Celery

from baozi.errors import BaoziError, UsageError
from baozi.faults.signals import kill, send
from baozi.process_group import ProcessGroup
from baozi.testing.condition import ActiveTasks, RunningTask
from baozi.testing.faulty_broker import FaultyBroker

#: Seconds: for workers to start; for a worker to tell its process.
_START, _ANSWER = 60, 5


class WorkersNotReady(BaoziError):
    """The workers of the test do not start."""


class FaultTarget(Protocol):
    """Workers, and what can be done to the one that executes a task."""

    @property
    def app(self) -> Celery:
        """The app of the workers. It reaches them through their broker."""

    def kill(self, task: RunningTask) -> None:
        """``kill -9`` the worker with its pool."""

    def kill_pool_process(self, task: RunningTask) -> None:
        """``kill -9`` the process that executes the task."""

    def stop(self, task: RunningTask, grace: float) -> None:
        """Ask the worker to end (SIGTERM), and kill it after ``grace`` seconds."""

    def freeze(self, task: RunningTask, seconds: float) -> None:
        """Freeze the worker with its pool for so many seconds."""


class ProcessWorkers:
    """Workers that are children of this process. No other process is ever hit."""

    def __init__(self, app: Celery) -> None:
        """Use the workers of ``app``."""
        self.app = app

    def kill(self, task: RunningTask) -> None:
        """``kill -9`` the worker with its pool."""
        kill(self._tree(task))

    def kill_pool_process(self, task: RunningTask) -> None:
        """``kill -9`` the process that executes the task."""
        kill([_own(task.process)])

    def stop(self, task: RunningTask, grace: float) -> None:
        """Ask the worker to end (SIGTERM), and kill it after ``grace`` seconds."""
        tree = self._tree(task)
        tree[0].terminate()
        _, alive = psutil.wait_procs(tree, timeout=grace)
        kill(alive)

    def freeze(self, task: RunningTask, seconds: float) -> None:
        """Freeze the worker with its pool for so many seconds."""
        tree = self._tree(task)
        send(tree, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            send(tree, signal.SIGCONT)

    def _tree(self, task: RunningTask) -> list[psutil.Process]:
        control: Any = self.app.control
        told = control.inspect(destination=[task.worker], timeout=_ANSWER).stats() or {}
        if task.worker not in told:
            raise BaoziError("The worker {worker} does not tell its process.", worker=task.worker)
        main = _own(told[task.worker]["pid"])
        return [main, *main.children(recursive=True)]


def _own(number: int) -> psutil.Process:
    """Return a process that this process has started, directly or not.

    Raises:
        UsageError: another program started it.
    """
    for process in psutil.Process().children(recursive=True):
        if process.pid == number:
            return process
    raise UsageError(
        "Process {number} executes the task, and this test has not started it. Only workers that the test"
        " starts are hit.",
        number=number,
    )


@contextmanager
def started_workers(
    app: Celery, command: str, broker: FaultyBroker, logs: Path, count: int = 1
) -> Iterator[ProcessWorkers]:
    """Start workers on ``broker``, and make ``app`` use it too. They end with the ``with`` block.

    Args:
        app: the app that calls the tasks in this process.
        command: the command line of one worker, such as ``celery -A shop worker -c 1``.
        broker: the broker of the test.
        logs: a folder for the workers' logs, such as pytest's ``tmp_path``.
        count: how many workers to start. Each gets a different name.

    Raises:
        WorkersNotReady: they do not answer within a minute.
    """
    with _on_broker(app, broker.url), ProcessGroup(logs) as group:
        for number in range(count):
            words = [*shlex.split(command), "-n", f"under-fault-{number}@%h"]
            if words[0] == "celery":  # that of this environment
                words[:1] = [sys.executable, "-m", "celery"]
            group.run("worker", str(number), words, _environment(broker.url))
        _wait(app, group, count)
        yield ProcessWorkers(app)


def _environment(url: str) -> dict[str, str]:
    return dict.fromkeys(("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), url)


def _wait(app: Celery, group: ProcessGroup, count: int) -> None:
    active, deadline = ActiveTasks(app), time.monotonic() + _START
    while (ready := len(active.look())) < count:
        for worker in group.processes:
            if worker.process.poll() is not None or time.monotonic() > deadline:
                raise WorkersNotReady(
                    "{ready} of {count} workers answer. The last line of a log: {line}",
                    ready=ready,
                    count=count,
                    line=worker.last_log_line(),
                )


@contextmanager
def _on_broker(app: Celery, url: str) -> Iterator[None]:
    """Make ``app`` use the broker at ``url`` in this process, and no connection that it has."""
    conf: Any = app.conf
    before = conf.broker_read_url, conf.broker_write_url
    conf.broker_read_url = conf.broker_write_url = url
    _forget_connections(app)
    try:
        yield
    finally:
        conf.broker_read_url, conf.broker_write_url = before
        _forget_connections(app)


def _forget_connections(app: Any) -> None:
    # Celery keeps the pools of the broker that it used first. It has no public way to change that.
    app._pool = app.amqp._producer_pool = None
