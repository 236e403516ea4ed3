"""The chaos environment: producers, workers and a broker behind proxies, into which faults are injected."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import func, select

from baozi.audit import Audit, settled_audit
from baozi.broker.temporary import queue_state
from baozi.errors import BaoziError, BrokerError, DeadlinePassed, ExitCode
from baozi.faults.proxy import Proxy
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten
from baozi.ledger_url import file_url
from baozi.process_group import ProcessGroup, StartedProcess
from side_by_side import journal_analysis
from side_by_side.celery_processes import start_worker
from side_by_side.multiprocessing_group import ProcessFailed
from side_by_side.targets.target import BrokerTarget

Seen = TypeVar("Seen")

#: The name of the run in which all producers put.
RUN = "chaos"
#: Seconds between a worker's heartbeats. The broker closes a connection that is silent for twice as long.
_HEARTBEAT = 2
#: Seconds that a put may take: longer than any fault, except one whose length is an option.
_PUT = 60
#: Seconds: between two checks; to be ready; for work to go on after a fault; to close an order; for all
#: accepted baozi to be eaten.
_CHECK_EVERY, _READY, GOES_ON, _CLOSED, _SETTLED = 0.05, 90, 90, 90, 120
#: Seconds in which a pool process that has lost its broker commits what it is eating.
_LAST_COMMIT = 0.5
#: Seconds without a new line in any producer's journal after which no producer is putting.
_SILENCE = 0.5


class PromiseBroken(BaoziError):
    """Something that must hold under a fault did not hold."""

    exit_code = ExitCode.LOSS


@dataclass(frozen=True, slots=True)
class ChaosConfiguration:
    """How many processes the chaos environment has, and how fast they work."""

    tray: int = 1
    """Baozi that a pool process takes at once, at most."""
    workers: tuple[str, ...] = ("小明", "小红")
    processes: int = 2
    """Pool processes of each worker."""
    producers: tuple[str, ...] = ("alex", "peiqi", "egon")
    make_seconds: float = 0.01
    """Seconds between two baozi of a producer."""
    eat_seconds: float = 0.002
    away_seconds: float = 10
    """Seconds that the broker is away, in the fault ``broker-away``."""
    soft_shutdown_seconds: float = 3
    """Seconds that a stopped worker may go on working."""

    @property
    def most_unacknowledged(self) -> int:
        """The largest number of unacknowledged messages of a worker: its prefetch count (tasks/config.py)."""
        return self.processes * (1 if self.tray == 1 else 2 * self.tray)


class RunRecords:
    """What a run has recorded: its ledger, and the journals of its producers and workers."""

    def __init__(self, folder: Path, run: str) -> None:
        """Remember the folder. Nothing is created yet."""
        self._run = run
        self.home = folder / "home"
        """The folder whose ``runs`` has the producers' journals."""
        self.eaten_folder = folder / "eaten"
        """The folder of the workers' journals."""
        self.ledger_file = folder / "ledger.sqlite3"
        self._ledger = Ledger(file_url(self.ledger_file))

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def eaten(self, consumer: str | None = None) -> int:
        """Return how many baozi are in the ledger, of all consumers or of one."""
        how_many = select(func.count()).select_from(eaten)
        if consumer is not None:
            how_many = how_many.where(eaten.c.consumer == consumer)
        try:
            with self._ledger.reading() as connection:
                return int(connection.execute(how_many).scalar_one())
        except BaoziError:  # the ledger does not exist yet
            return 0

    def deliveries(self) -> int:
        """Return how many deliveries the ledger has counted."""
        how_many = select(func.coalesce(func.sum(eaten.c.deliveries), 0))
        with self._ledger.reading() as connection:
            return int(connection.execute(how_many).scalar_one())

    def eaten_twice(self) -> int:
        """Return how often a worker ate a baozi that had been eaten, by the journals of all workers."""
        lines = journal_analysis.read_lines(self.eaten_folder)
        return journal_analysis.count(line.entry for line in lines).duplicated

    def accepted(self, producer: str) -> int:
        """Return how many baozi of ``producer`` are accepted, by its journal."""
        journal = self._journals / f"{producer}.journal"
        return journal.read_bytes().count(b" accepted ") if journal.exists() else 0

    @property
    def _journals(self) -> Path:
        return self.home / "runs" / self._run

    def producers_are_silent(self) -> bool:
        """Wait half a second, and return whether no producer has written to its journal meanwhile."""
        before = self.journal_bytes()
        time.sleep(_SILENCE)
        return self.journal_bytes() == before

    def journal_bytes(self) -> int:
        """Return the size of all producers' journals in bytes."""
        return sum(path.stat().st_size for path in self._journals.glob("*.journal"))

    def audit(self, orders: int, wait: float) -> Audit:
        """Audit ``orders`` orders when they are closed and all is eaten, or after ``wait`` seconds.

        Raises:
            LedgerError: there is nothing to audit.
        """
        return settled_audit(self._ledger, self._run, lambda: None, wait, orders)


class ChaosEnvironment:
    """Starts workers and producers, and lets faults break them. All end with the ``with`` block."""

    def __init__(self, target: BrokerTarget, folder: Path, configuration: ChaosConfiguration) -> None:
        """Create an environment without processes.

        Args:
            target: the broker. The workers declare the queues that it lacks.
            folder: this environment's own folder, for the ledger, journals and logs.
            configuration: the processes and their speed.
        """
        self.broker = target
        self.folder = folder
        self.configuration = configuration
        self.records = RunRecords(folder, RUN)
        self._stack = ExitStack()
        self._names = 0
        self._closing = False
        self._stopped: set[int] = set()
        self._ordered: set[str] = set()
        self._first_node: dict[str, int] = {}
        self._eaten_at_start: dict[str, int] = {}
        self._recovery_clock = (0.0, 0)
        self._recovered: float | None = None

    def __enter__(self) -> Self:
        """Start all processes. Returns when the workers are ready and the first baozi is eaten.

        Raises:
            DeadlinePassed, ProcessFailed: they are not ready.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self.proxies = [
                stack.enter_context(closing(Proxy(partial(self.broker.address, node), node)))
                for node in range(self.broker.nodes)
            ]
            output = stack.enter_context(Path(os.devnull).open("w"))
            self._group = stack.enter_context(ProcessGroup(self.folder / "logs", output))
            stack.callback(self._kill_all)
            stack.callback(self.records.close)
            for name in self.configuration.workers:
                self.start_worker(name)
            workers = len(self.configuration.workers)
            self.wait_until(lambda: self.consumer_count() >= workers, "the workers to be ready", _READY)
            for name in self.configuration.producers:
                self.start_producer(name)
            self.wait_until(lambda: self.records.eaten() > 0, "the first baozi to be eaten", _READY)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes."""
        self._stack.close()

    def _kill_all(self) -> None:
        """Kill all processes at once: a clean stop has no more use."""
        for started in self._group.processes:
            if started.process.poll() is None:
                os.killpg(started.process.pid, signal.SIGKILL)

    # The processes.

    def workers(self) -> list[StartedProcess]:
        """Return the workers that run; at least one.

        Raises:
            ProcessFailed: none runs.
        """
        return self._running("worker")

    def ready_workers(self) -> list[StartedProcess]:
        """Return the workers that have eaten since their start; waits for one.

        A worker that loses a pool process before that gives up and ends.

        Raises:
            DeadlinePassed, ProcessFailed: none is ready.
        """
        return self.wait_until(
            lambda: [
                it for it in self.workers() if self.records.eaten(it.name) > self._eaten_at_start[it.name]
            ],
            "a worker to be ready",
            _READY,
        )

    def producers(self) -> list[StartedProcess]:
        """Return the producers that run; at least one.

        Raises:
            ProcessFailed: none runs.
        """
        return self._running("producer")

    def _running(self, role: str) -> list[StartedProcess]:
        found = [
            it
            for it in self._group.processes
            if it.role == role and it.process.poll() is None and it.process.pid not in self._stopped
        ]
        if not found:
            raise ProcessFailed("No {role} runs any more.", role=role)
        return found

    def new_name(self, prefix: str) -> str:
        """Return a name that no process of this environment has."""
        self._names += 1
        return f"{prefix}-{self._names}"

    def start_worker(
        self, name: str, before: Sequence[str] = (), folder: Path | None = None
    ) -> StartedProcess:
        """Start a worker. For the parameters see :func:`side_by_side.celery_processes.start_worker`."""
        self._keep_log("worker", name)
        self._eaten_at_start[name] = self.records.eaten(name)
        return start_worker(
            self._group,
            name,
            self._environment(name),
            self.configuration.processes,
            changes=[f"broker_heartbeat={_HEARTBEAT}"],
            before=before,
            folder=folder,
        )

    def start_producer(
        self, name: str, count: int = 0, *, resume: bool = False, before: Sequence[str] = ()
    ) -> StartedProcess:
        """Start a producer.

        Args:
            name: the name of the producer.
            count: baozi that it puts, as fast as it can; 0: it puts at the configured rate and never stops.
            resume: whether it goes on with its order.
            before: a module with arguments that runs the program, such as one that changes its clock.
        """
        self._keep_log("producer", name)
        self._ordered.add(name)
        order = ["--name", name, "--run", RUN, "--count", str(count), *(["--resume"] if resume else [])]
        order += [] if count else ["--interval", str(self.configuration.make_seconds)]
        program = [*before, "producers", *order, "--json"]
        return self._group.start("producer", name, program, self._environment(name))

    def stop_worker(self, worker: StartedProcess) -> None:
        """Send SIGTERM to a worker, and wait until it has ended.

        Raises:
            DeadlinePassed: it does not end.
        """
        self._stopped.add(worker.process.pid)
        worker.process.terminate()
        limit = self.configuration.soft_shutdown_seconds + _CLOSED
        self.wait_until(lambda: worker.process.poll() is not None, f"{worker.name} to stop", limit)

    def _keep_log(self, role: str, name: str) -> None:
        """Rename the log of a process that is started again, so that its old log is kept."""
        log = self._group.logs / f"{role}-{name}.log"
        if log.exists():
            log.rename(log.with_suffix(f".{time.monotonic_ns()}.log"))

    def _environment(self, name: str) -> dict[str, str]:
        # Each process prefers another node, as behind a load balancer.
        self._first_node.setdefault(name, len(self._first_node))
        ports = [proxy.port for proxy in self.proxies]
        first = self._first_node[name] % len(ports)
        chosen = {
            "broker_url": self._url(ports[first:] + ports[:first]),
            "broker_timeout": _PUT + self.configuration.away_seconds,
            # Longer than the wait for its end, so that a process that hangs can still log where it hangs.
            "stop_timeout": 2 * _CLOSED,
            "home": self.records.home,
            "ledger_url": file_url(self.records.ledger_file).render_as_string(),
            "journal": self.records.eaten_folder,
            "eat_seconds": self.configuration.eat_seconds,
            "tray": self.configuration.tray,
            "soft_shutdown_timeout": self.configuration.soft_shutdown_seconds,
        }
        ours = {f"BAOZI_{name.upper()}": str(value) for name, value in chosen.items()}
        # A process that is aborted writes its stack to its log.
        return {**ours, "PYTHONFAULTHANDLER": "1"}

    def _url(self, ports: Sequence[int]) -> str:
        login = self.broker.login
        return ";".join(f"amqp://{login}@127.0.0.1:{port}{self.broker.path}" for port in ports)

    # The broker's queues.

    @property
    def most_redelivered(self) -> int:
        """The largest number of baozi that come again if every connection is lost.

        These are all unacknowledged messages, and one put of each producer.
        """
        unacknowledged = self.configuration.most_unacknowledged * len(self.workers())
        return unacknowledged + len(self.configuration.producers)

    def consumer_count(self) -> int:
        """Return how many consumers the queue has; 0 if the broker does not answer."""
        return self._queue_state()[1]

    def ready_messages(self) -> int:
        """Return how many messages are ready in the queue; 0 if the broker does not answer."""
        return self._queue_state()[0]

    def dead_letters(self) -> int:
        """Return how many dead letters there are; 0 if the broker does not answer."""
        return self._queue_state("baozi.dead")[0]

    def _queue_state(self, queue: str = "baozi") -> tuple[int, int]:
        """Ask the broker directly, not through a proxy, whose network may be bad."""
        ports = [self.broker.address(node)[1] for node in range(self.broker.nodes)]
        for port in ports:
            try:
                return queue_state(self._url([port]), queue)
            except BrokerError:
                continue
        return 0, 0

    # Recovery and waiting.

    def start_recovery_clock(self) -> None:
        """Start to measure the time until a baozi is eaten again."""
        self._recovery_clock = (time.monotonic(), self.records.eaten())
        self._recovered = None

    def ignore_eaten_so_far(self) -> None:
        """Do not count baozi that were already being eaten when the clock started: they show no recovery."""
        time.sleep(_LAST_COMMIT)
        self._recovery_clock = (self._recovery_clock[0], self.records.eaten())

    def wait_for_work(self) -> None:
        """Wait until baozi are put and eaten.

        Raises:
            DeadlinePassed, ProcessFailed: they are not.
        """
        eaten_before, written_before = self.records.eaten(), self.records.journal_bytes()
        self.wait_until(
            lambda: self.records.eaten() > eaten_before and self.records.journal_bytes() > written_before,
            "work to go on",
            GOES_ON,
        )

    def seconds_to_recovery(self) -> float:
        """Return the seconds from the start of the recovery clock to the first baozi eaten after it.

        Waits for that baozi. Further calls return the same number.

        Raises:
            DeadlinePassed, ProcessFailed: none is eaten.
        """
        at, before = self._recovery_clock
        if self._recovered is None:
            self.wait_until(lambda: self.records.eaten() > before, "a baozi to be eaten", GOES_ON)
            self._recovered = time.monotonic() - at
        return self._recovered

    def wait_until_eats(self, consumer: str, seconds: float) -> None:
        """Wait until ``consumer`` has eaten one more baozi, for at most ``seconds``.

        Raises:
            DeadlinePassed, ProcessFailed: it has not.
        """
        before = self.records.eaten(consumer)
        self.wait_until(lambda: self.records.eaten(consumer) > before, f"{consumer} to eat", seconds)

    def wait_for_more_eaten(self, count: int, seconds: float) -> None:
        """Wait until ``count`` more baozi are eaten, for at most ``seconds``. Fewer are no error."""
        enough, deadline = self.records.eaten() + count, time.monotonic() + seconds
        while self.records.eaten() < enough and time.monotonic() < deadline:
            time.sleep(_CHECK_EVERY)

    def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, and check the processes meanwhile.

        Raises:
            ProcessFailed: a process ended with an error.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _CHECK_EVERY))

    def wait_until(self, condition: Callable[[], Seen], what: str, seconds: float) -> Seen:
        """Wait until ``condition`` returns something true, and return that.

        Raises:
            DeadlinePassed: it did not within ``seconds``; the message says ``what`` was awaited.
            ProcessFailed: a process ended with an error meanwhile.
        """
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            if not self._closing:
                self.check()
            if time.monotonic() > deadline:
                raise DeadlinePassed(
                    "Waited {seconds:g} s for {what}, without success.", seconds=seconds, what=what
                )
            time.sleep(_CHECK_EVERY)
        return result

    def check(self) -> None:
        """Check that no process has ended with an error. A process that was killed is no error.

        Raises:
            ProcessFailed: one has; the message has its name and its last log line.
        """
        for started in self._group.processes:
            code = started.process.poll() or 0
            if code <= 0 or started.process.pid in self._stopped:
                continue
            raise ProcessFailed(
                "The {role} {name} failed ({code}): {line}",
                role=started.role,
                name=started.name,
                code=code,
                line=started.last_log_line(),
            )

    # The end.

    def close_orders(self) -> None:
        """Stop the producers, which close their orders. A producer that does not end logs what it is doing.

        Raises:
            DeadlinePassed: a producer does not end.
        """
        self._closing = True  # whatever process has failed, the counts must still be made
        producers = [
            it for it in self._group.processes if it.role == "producer" and it.process.poll() is None
        ]
        for started in producers:
            self._stopped.add(started.process.pid)
            started.process.terminate()
        try:
            self.wait_until(
                lambda: all(it.process.poll() is not None for it in producers),
                "the producers to close their orders",
                _CLOSED,
            )
        except DeadlinePassed:
            for started in producers:
                if started.process.poll() is None:
                    started.process.send_signal(signal.SIGABRT)
            raise

    def audit(self) -> Audit:
        """Wait until all is eaten, and return the audit.

        Raises:
            LedgerError: there is nothing to audit.
        """
        return self.records.audit(len(self._ordered), _SETTLED)


def choose(chance: Random, among: Sequence[Seen]) -> Seen:
    """Return one of them, by one random number, so that later choices are the same in a replay."""
    return among[int(chance.random() * len(among))]
