"""Injects one fault while the block of a ``with`` statement runs."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from baozi.errors import BaoziError, UsageError
from baozi.testing.condition import ActiveTasks, Condition, RunningTask
from baozi.testing.faulty_broker import FaultyBroker
from baozi.testing.workers import FaultTarget

#: Seconds until the condition must hold, unless the test says otherwise; between two looks.
_WITHIN, _LOOK_EVERY = 30, 0.05
#: Seconds that a worker or the network is frozen: a broker that asks for a heartbeat every four seconds, as
#: the tests' own does, has closed the connection by then.
_FROZEN = 13
#: Seconds that a stopped worker may take, as with ``docker stop``.
_GRACE = 10


class FaultNotInjected(BaoziError):
    """The condition of a fault did not hold in time, so the test has tested nothing."""


@dataclass
class TestedFault:
    """A fault. It is injected by the end of the ``with`` block."""

    task: RunningTask | None = None
    """The execution that it met. None until then."""


class Faults:
    """The faults that a test can inject. Each is a ``with`` statement, and is injected once.

    The block starts the work. At its end the statement waits until the fault is injected.
    """

    def __init__(self, workers: FaultTarget, broker: FaultyBroker | None = None) -> None:
        """Hit ``workers``, and ``broker`` if there is one."""
        self._workers, self._broker = workers, broker

    def kill_worker_while(
        self, condition: Condition, within: float = _WITHIN
    ) -> AbstractContextManager[TestedFault]:
        """Kill the worker that executes such a task, with its pool."""
        return self._while(condition, within, self._workers.kill)

    def kill_pool_process_while(
        self, condition: Condition, within: float = _WITHIN
    ) -> AbstractContextManager[TestedFault]:
        """Kill the pool process that executes such a task."""
        return self._while(condition, within, self._workers.kill_pool_process)

    def stop_worker_while(
        self, condition: Condition, within: float = _WITHIN, grace: float = _GRACE
    ) -> AbstractContextManager[TestedFault]:
        """Stop the worker that executes such a task with SIGTERM, and kill it after ``grace`` seconds."""
        return self._while(condition, within, lambda task: self._workers.stop(task, grace))

    def freeze_worker_while(
        self, condition: Condition, within: float = _WITHIN, seconds: float = _FROZEN
    ) -> AbstractContextManager[TestedFault]:
        """Freeze the worker that executes such a task for so many seconds."""
        return self._while(condition, within, lambda task: self._workers.freeze(task, seconds))

    def cut_connections_while(
        self, condition: Condition, within: float = _WITHIN
    ) -> AbstractContextManager[TestedFault]:
        """Close each connection to the broker."""
        broker = self._of_the_test()
        return self._while(condition, within, lambda _: broker.cut())

    def freeze_connections_while(
        self, condition: Condition, within: float = _WITHIN, seconds: float = _FROZEN
    ) -> AbstractContextManager[TestedFault]:
        """Let no byte pass between the broker and all others for so many seconds."""
        broker = self._of_the_test()
        return self._while(condition, within, lambda _: broker.freeze(seconds))

    def restart_broker_while(
        self, condition: Condition, within: float = _WITHIN
    ) -> AbstractContextManager[TestedFault]:
        """Kill the broker, and start it again on its data."""
        broker = self._of_the_test()
        return self._while(condition, within, lambda _: broker.restart())

    def _of_the_test(self) -> FaultyBroker:
        if self._broker is None:
            raise UsageError(
                "This fault breaks the broker. Use the fixture faulty_broker for the workers of this test."
            )
        return self._broker

    @contextmanager
    def _while(
        self, condition: Condition, within: float, inject: Callable[[RunningTask], object]
    ) -> Iterator[TestedFault]:
        fault, given_up = TestedFault(), threading.Event()

        def wait_and_inject() -> None:
            task = self._wait(condition, within, given_up)
            if task is not None:
                fault.task = task
                inject(task)

        with ThreadPoolExecutor(1, "fault") as thread:
            injected = thread.submit(wait_and_inject)
            try:
                yield fault
            except BaseException:
                given_up.set()
                raise
            injected.result()

    def _wait(self, condition: Condition, within: float, given_up: threading.Event) -> RunningTask | None:
        """Return the first execution that meets the condition; None if the test has failed already."""
        active, deadline = ActiveTasks(self._workers.app), time.monotonic() + within
        others: set[str] = set()
        while not given_up.is_set():
            for task in active.now():
                if condition.holds(task):
                    return task
                others.add(task.name)
            if time.monotonic() > deadline:
                raise FaultNotInjected(
                    "Waited {seconds:g} s in vain for {what}. Workers that answered: {workers}. Tasks that"
                    " they executed: {tasks}.",
                    seconds=within,
                    what=condition.what,
                    workers=", ".join(active.workers) or "none",
                    tasks=", ".join(sorted(others)) or "none",
                )
            given_up.wait(_LOOK_EVERY)
        return None
