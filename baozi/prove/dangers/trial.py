"""What a demonstration does: starts and kills workers, makes calls, waits, and counts."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import psutil

from baozi.amqp.connection import connect
from baozi.broker.temporary import queue_state
from baozi.errors import UsageError
from baozi.faults.signals import kill
from baozi.faults.single_node import SingleNode
from baozi.process_group import StartedProcess
from baozi.prove.dangers.app import APP
from baozi.prove.records import CallHistory
from baozi.prove.trial import LOOK_EVERY, TooLate, Trial

#: Seconds: for a worker or a producer to be ready; for a call to be started; for one answer of the broker.
_READY, _START, _ANSWER = 60, 30, 10
#: The task of most demonstrations, and the dead-letter exchange of the app.
WORK, DEAD = "shop.work", "work.dead"


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


class DangerTrial(Trial):
    """A trial of a small app on a broker that this command has started."""

    fixed = False
    """Whether the app has the fix."""

    def _prepare(self) -> None:
        self.declare_dead_letters(DEAD)
        self.virtual_host = quote(self.name, safe="")

    # The processes.

    def start_worker(
        self,
        concurrency: int = 1,
        *options: str,
        ready: bool = True,
        gossip: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> StartedProcess:
        """Start a worker, and wait until it is ready.

        Args:
            concurrency: how many tasks it executes at once.
            options: more options of `celery worker`.
            ready: False to return at once.
            gossip: whether workers talk to each other, which is Celery's default.
            environment: more variables.

        Raises:
            UsageError: it ended before it was ready.
        """
        count = len(self.records.workers)
        words = ["celery", "-A", APP, "worker", "-c", str(concurrency), "-l", "warning"]
        if "-n" not in options:
            words += ["-n", f"worker-{self._started}@%h"]
        if not gossip:
            words += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        worker = self.run_worker([*words, *options], environment)

        def is_ready() -> bool:
            if worker.process.poll() is not None:
                raise UsageError("The worker does not start: {line}", line=worker.last_log_line())
            return len(self.records.workers) > count

        if ready:
            self.wait_until(is_ready, "the worker", _READY)
        return worker

    def kill(self, worker: StartedProcess) -> None:
        """``kill -9`` a worker and its pool."""
        kill(_tree(worker.process))
        worker.process.wait()

    def stop(self, worker: StartedProcess, grace: float) -> bool:
        """Send SIGTERM to a worker, and kill it after its grace period. Return whether it ended before."""
        worker.process.terminate()
        ended = self.within(grace, lambda: worker.process.poll() is not None)
        self.kill(worker)
        return ended

    def kill_pool(self, worker: StartedProcess) -> None:
        """``kill -9`` the pool processes of a worker."""
        kill(worker.process.children(recursive=True))

    def peak_memory(self, worker: StartedProcess, seconds: float, pool: bool = False) -> int:
        """Return the largest memory in bytes of a worker's main process or of one of its pool processes."""
        peak, deadline = 0, time.monotonic() + seconds
        while time.monotonic() < deadline:
            for process in worker.process.children() if pool else [worker.process]:
                with suppress(psutil.NoSuchProcess):
                    peak = max(peak, process.memory_info().rss)
            time.sleep(LOOK_EVERY)
        return peak

    def busy(self, worker: StartedProcess) -> int:
        """Return how many pool processes of a worker execute a task."""
        self.records.refresh()
        pool = [it.pid for it in worker.process.children()]
        return len({it.process for it in self.records.in_flight(pool)})

    def start_python(self, code: str, **environment: str) -> StartedProcess:
        """Start a program in the app's folder.

        Args:
            code: Python.
            environment: more variables.
        """
        self._started += 1
        return self.group.run(
            "program",
            str(self._started),
            [sys.executable, "-c", code],
            {**self._environment, **environment},
            self.app_folder,
        )

    def run_python(self, code: str, **environment: str) -> str:
        """Run a program until it ends, and return what it printed.

        Raises:
            UsageError: it ended with an error.
        """
        output = self.folder / "stdout.log"
        before = output.stat().st_size
        program = self.start_python(code, **environment)
        if program.process.wait(_READY):
            raise UsageError("The program ended: {line}", line=program.last_log_line())
        return output.read_text()[before:]

    # Calls.

    def call(
        self, count: int = 1, *arguments: Any, task: str = WORK, pause: float = 0, **options: Any
    ) -> StartedProcess:
        """Call a task through the app, and wait until all calls are made.

        Args:
            count: how often.
            arguments: the task's.
            task: its name.
            pause: seconds between two calls.
            options: those of ``apply_async``.
        """
        producer = self.calling(count, *arguments, task=task, pause=pause, **options)
        if producer.process.wait(_READY + count):
            raise UsageError("The producer ended: {line}", line=producer.last_log_line())
        self.records.refresh()
        return producer

    def calling(
        self, count: int, *arguments: Any, task: str = WORK, pause: float = 0, **options: Any
    ) -> StartedProcess:
        """Begin to call a task. The parameters are those of :meth:`call`."""
        return self.run_producer(APP, task, [list(arguments)], count, pause=pause, options=options)

    @property
    def calls(self) -> list[CallHistory]:
        """What is recorded about each call."""
        self.records.refresh()
        return list(self.records.calls.values())

    @property
    def accepted(self) -> int:
        """How often ``apply_async`` returned without an error."""
        return sum(it.accepted for it in self.calls)

    @property
    def received(self) -> int:
        """How many calls a worker has received."""
        return sum(bool(it.received) for it in self.calls)

    @property
    def executions(self) -> int:
        """How often a task was started."""
        return sum(it.started for it in self.calls)

    def executions_at_most(self, most: int, quiet: float = 10) -> int:
        """Return how often tasks were started, when it was so often, or when none starts for a while.

        Args:
            most: this many are enough.
            quiet: seconds without a start after which no other is expected.
        """

        def more_than(seen: int) -> Callable[[], bool]:
            return lambda: self.executions > seen

        seen = 0
        while seen < most and self.within(quiet, more_than(seen)):
            seen = self.executions
        return seen

    @property
    def succeeded(self) -> int:
        """How many calls have succeeded."""
        return sum(bool(it.succeeded) for it in self.calls)

    @property
    def unfinished(self) -> int:
        """How many accepted calls have not succeeded."""
        return sum(it.accepted and not it.succeeded for it in self.calls)

    def wait_for(self, started: int) -> None:
        """Wait until tasks were started so often.

        Raises:
            TooLate: they were not.
        """
        self.wait_until(lambda: self.executions >= started, "the tasks", _START)

    def within(self, seconds: float, seen: Callable[[], object]) -> bool:
        """Wait at most ``seconds`` until ``seen`` returns what is true; return whether it did."""
        try:
            self.wait_until(seen, "it", seconds)
        except TooLate:
            return False
        return True

    def settle(self, seconds: float = 10) -> None:
        """Wait until each accepted call has succeeded, at most so long."""
        self.within(seconds, lambda: self.accepted and not self.unfinished)

    def lost(self) -> int:
        """Return how many accepted calls have not succeeded and are in no queue. All workers end."""
        unfinished = [it.id for it in self.calls if it.accepted and not it.succeeded]
        for started in self.group.processes:
            kill(_tree(started.process))
        queued = self.queued() if unfinished else {}
        return sum(it not in queued for it in unfinished)

    # The broker.

    @property
    def node(self) -> SingleNode:
        """The node that was started."""
        assert self.broker.node is not None, "a demonstration starts its broker"  # noqa: S101  # a mypy narrowing
        return self.broker.node

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Have the broker's memory alarm on."""
        self.node.control("set_vm_memory_high_watermark", "0.000001")
        try:
            yield
        finally:
            self.node.control("set_vm_memory_high_watermark", "0.6")

    @contextmanager
    def consumer_timeout(self, seconds: int) -> Iterator[None]:
        """Change the consumer timeout of the broker, which is 30 minutes."""
        self.node.control("eval", f"application:set_env(rabbit, consumer_timeout, {seconds * 1000}).")
        try:
            yield
        finally:
            self.node.control("eval", "application:set_env(rabbit, consumer_timeout, 1800000).")

    @contextmanager
    def broker_away(self) -> Iterator[None]:
        """Close each connection, and accept none."""
        self.proxy.target = lambda: ("127.0.0.1", 1)  # where nothing listens
        self.proxy.cut()
        try:
            yield
        finally:
            self.proxy.target = self.broker.address

    def set_policy(self, definition: Mapping[str, Any]) -> None:
        """Set a policy for all queues of the virtual host."""
        body = {"pattern": ".*", "apply-to": "queues", "definition": definition}
        self.broker.api("PUT", f"policies/{self.virtual_host}/all", body)

    def bind_dead_letters(self) -> None:
        """Bind the dead letters' queue to its exchange."""
        with self.channel() as channel:
            channel.queue_bind(DEAD, DEAD, "")

    def unbind_dead_letters(self) -> None:
        """Remove that binding."""
        with self.channel() as channel:
            channel.queue_unbind(DEAD, DEAD, "")

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Yield a channel on the virtual host, without the proxy."""
        with connect("prove", _ANSWER, self.url_of(self.name)) as connection:
            yield connection.default_channel

    def url_of(self, virtual_host: str) -> str:
        """Return the URL of a virtual host, without the proxy."""
        return self.broker.url_of(virtual_host, self.broker.address())

    def ready(self, queue: str, virtual_host: str | None = None) -> int:
        """Return how many messages of a queue no consumer has; 0 if there is no such queue."""
        return queue_state(self.url_of(virtual_host or self.name), queue)[0]

    def queue(self, name: str) -> dict[str, Any]:
        """Return what the management API says of a queue."""
        found: dict[str, Any] = self.broker.api("GET", f"queues/{self.virtual_host}/{name}")
        return found

    def delivered(self) -> int:
        """Return how many messages were delivered on the virtual host, by the management API."""
        told = self.broker.api("GET", f"vhosts/{self.virtual_host}").get("message_stats", {})
        return int(told.get("deliver_get", 0))
