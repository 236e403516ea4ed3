"""The lab: one broker, and for each trial new workers and a new producer, which connect through a proxy."""

import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from baozi.doctor.application import masked
from baozi.errors import BaoziError, UsageError
from baozi.language import Sentence
from baozi.process_group import StartedProcess
from baozi.prove import tasks
from baozi.prove.lab_broker import LabBroker
from baozi.prove.plan import ETA, NOW, RETRY
from baozi.prove.plugin import Change
from baozi.prove.trial import LOOK_EVERY, TooLate, Trial

#: Seconds for a worker to become ready.
_READY = 60
#: Seconds until a delayed call is due.
COUNTDOWN = 4


class NotApplicable(BaoziError):
    """The fault cannot be injected into this app."""


@dataclass
class Lab:
    """What all trials of one app have in common."""

    broker: LabBroker
    folder: Path
    app: str
    command: str
    """The user's own command line of a worker."""
    task: str | None = None
    """The task to call; None for the one that is added."""
    arguments: Sequence[Any] = ()
    workers: int = 1
    change: Change = field(default_factory=Change)
    findings: Sequence[str] = ()
    """Ids of the doctor's findings."""
    task_seconds: float = 0.1
    """How long a task takes. The first trial, without a fault, measures it."""
    concurrency: int = 2
    calls: int | None = None
    """Calls of each trial; None for as many as take some seconds."""
    _trials: int = 0

    def trial(self, call: str = NOW) -> "AppTrial":
        """Return a new trial.

        Args:
            call: how the task is called: ``now``, ``eta`` or ``retry``.
        """
        self._trials += 1
        return AppTrial(self, f"baozi-prove-{self._trials}", call)


class AppTrial(Trial):
    """A trial of the user's app: its workers run by the user's own command, and a producer makes calls."""

    #: Seconds of work in a trial; the fewest calls for each pool process, and the most calls.
    _LASTS, _FEWEST, _MOST = 6.0, 4, 60
    #: How much faster calls are made than they can be executed.
    _FASTER = 1.6
    #: Calls per second, at most.
    _FASTEST = 50

    def __init__(self, lab: Lab, name: str, call: str) -> None:
        """Create a trial without processes."""
        super().__init__(lab.broker, lab.folder / name, name, lab.change)
        self.lab, self.call = lab, call
        self.count = lab.calls or self._count()
        self._killed: set[int] = set()
        self.producers = 0
        """How many producers should make all their calls."""

    def _count(self) -> int:
        fitting = round(self._LASTS * self.lab.concurrency / max(self.lab.task_seconds, 0.001))
        return max(self._FEWEST * self.lab.concurrency, min(self._MOST, fitting))

    @property
    def _pause(self) -> float:
        """Seconds between two calls."""
        return max(1 / self._FASTEST, self.lab.task_seconds / self.lab.concurrency / self._FASTER)

    def _prepare(self) -> None:
        """Start the workers, and wait until they are ready.

        Raises:
            UsageError: they do not start.
        """
        exchange = self.change.queue_arguments.get("x-dead-letter-exchange")
        if exchange is not None:  # the advice says to declare it
            self.declare_dead_letters(exchange)
        for _ in range(self.lab.workers):
            self.start_worker()
        self._wait_for_workers()

    # The processes.

    def start_worker(self) -> StartedProcess:
        """Start a worker by the user's own command."""
        words = shlex.split(self.lab.command)
        if self.lab.workers > 1:
            words += ["-n", f"prove-{self._started}@%h"]
        return self.run_worker(words)

    def _wait_for_workers(self) -> None:
        def ready() -> bool:
            if self.records.other_broker:
                raise UsageError(
                    "The workers would use the broker {url}, not the one that is broken here."
                    " Celery's own settings and CELERY_BROKER_URL must name it.",
                    url=masked(self.records.other_broker),
                )
            for worker in self.group.processes:
                if worker.role == "worker" and worker.process.poll() is not None:
                    raise UsageError(self._not_started(worker))
            return len(self.records.workers) >= self.lab.workers

        try:
            self.wait_until(ready, "the workers", _READY)
        except TooLate:
            raise UsageError(self._not_started(self.group.processes[0])) from None

    def _not_started(self, worker: StartedProcess) -> str:
        if "Error in sitecustomize" in worker.log.read_text(errors="replace"):
            return (
                f"`{self.lab.command}` runs a Python that does not have baozi, so that nothing can be"
                " recorded. Install baozi where the app is installed."
            )
        code = worker.process.poll()
        how = f"ended with exit code {code}" if code is not None else f"was not ready within {_READY} s"
        return f"The workers do not start: `{self.lab.command}` {how}: {masked(worker.last_log_line())}"

    def workers(self) -> list[psutil.Process]:
        """Return the main processes of the workers that are ready and alive."""
        self.records.refresh()
        found = []
        for ready in self.records.workers:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(ready.pid)
                if process.status() != psutil.STATUS_ZOMBIE and ready.pid not in self._killed:
                    found.append(process)
        if not found:
            raise NotApplicable("No worker runs any more.")
        return found

    def children(self) -> list[psutil.Process]:
        """Return the pool processes of the workers.

        Raises:
            NotApplicable: the workers' pool has no processes.
        """
        if not any(it.has_children for it in self.records.workers):
            raise NotApplicable("The workers' pool has no child processes.")
        return [child for worker in self.workers() for child in worker.children()]

    def expect_end_of(self, process: psutil.Process) -> None:
        """Remember that this worker ends because of the fault."""
        self._killed.add(process.pid)
        for started in self.group.processes:
            with suppress(psutil.NoSuchProcess):
                if started.process.pid == process.pid or process in started.process.children(recursive=True):
                    self._killed.add(started.process.pid)

    def start_producer(self, first: int = 0) -> StartedProcess:
        """Start a producer that makes the calls from number ``first`` on."""
        self.producers += 1
        task, arguments = self._call()
        options = {"countdown": COUNTDOWN} if self.call == ETA else {}
        self.producer = self.run_producer(
            self.lab.app, task, arguments, self.count, first, self._pause, options
        )
        return self.producer

    def _call(self) -> tuple[str, list[Any]]:
        if self.call == RETRY:
            return tasks.RETRIED, [[self.lab.task_seconds]]
        if self.lab.task is None:
            return tasks.WORK, [[0.1]]
        return self.lab.task, list(self.lab.arguments) or [[]]

    # Waiting.

    def settle(self, quiet: float) -> str:
        """Wait until nothing happens any more. Return what does not go on, or an empty string.

        Args:
            quiet: seconds without an event after which nothing more is expected, if a call has no end yet.
        """
        task = self.lab.task_seconds
        quiet += 3 * task + (COUNTDOWN if self.call != NOW else 0)
        count, changed = -1, time.monotonic()
        deadline = time.monotonic() + 60 + 2 * quiet + 3 * task * self.count / self.lab.concurrency
        while time.monotonic() < deadline:
            self.records.refresh()
            if self.records.count != count:
                count, changed = self.records.count, time.monotonic()
            still = time.monotonic() - changed
            complete = self.records.produced >= self.producers and all(
                it.ended for it in self.records.calls.values() if it.accepted
            )
            if still > (1 + task if complete else quiet):
                break
            time.sleep(LOOK_EVERY)
        return self._stopped()

    def _stopped(self) -> str:
        if self.records.produced < self.producers:
            if self.producer.process.poll() is None:
                return (
                    Sentence("apply_async does not return")
                    if self.records.calling
                    else Sentence("the producer does not go on")
                )
            return f"the producer ended: {masked(self.producer.last_log_line())}"
        for started in self.group.processes:
            code = started.process.poll()
            if started.role == "worker" and code is not None and started.process.pid not in self._killed:
                return f"a worker ended by itself (exit code {code}): {masked(started.last_log_line())}"
        return ""
