"""The lab: one broker, and for each trial new workers and a new producer, which connect through a proxy."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import psutil
from amqp.exceptions import AMQPError

from baozi.amqp.connection import connect
from baozi.broker import management
from baozi.broker.temporary import temporary_broker
from baozi.doctor.application import masked
from baozi.errors import BaoziError, BrokerAway, UsageError
from baozi.faults.proxy import Address, Proxy
from baozi.faults.single_node import SingleNode
from baozi.process_group import ProcessGroup, StartedProcess
from baozi.prove import tasks
from baozi.prove.plan import ETA, NOW, RETRY
from baozi.prove.plugin import Change, Configuration, make_folder
from baozi.prove.producer import Calls
from baozi.prove.records import TrialRecords

Seen = TypeVar("Seen")

#: Seconds between two heartbeats that the broker asks for. It closes a connection that is silent for about
#: twice as long. Celery's own value is 120; with that, each frozen worker would take minutes.
HEARTBEAT = 4
#: Seconds: for a worker to become ready; between two looks at the records; for one answer of the broker.
_READY, _LOOK_EVERY, _ANSWER = 60, 0.05, 10
#: Seconds until a delayed call is due.
COUNTDOWN = 4
#: Queues of Celery itself.
_OF_CELERY = ("celeryev", "celery.pidbox", "reply.celery.pidbox")


class TooLate(BaoziError):
    """Something did not happen in time."""


class NotApplicable(BaoziError):
    """The fault cannot be injected into this app."""


@dataclass
class LabBroker:
    """The broker of a lab, and what an administrator can do with it."""

    url: str = field(repr=False)
    management_url: str
    version: str | None = None
    node: SingleNode | None = None
    """The node that this process has started; None for a broker of the user's, which is not broken."""

    def address(self, _node: int = 0, /) -> Address:
        """Return where it listens now."""
        if self.node is not None:
            return self.node.address(0)
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 5672

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API.

        Raises:
            BrokerAway: it does not answer, or refuses.
        """
        where = self.node.broker.record.management_url if self.node is not None else self.management_url
        try:
            return management.ask(where, self.url, method, path, body)
        except OSError as error:
            raise BrokerAway(
                "The broker's management API does not answer: {error}.", error=masked(error)
            ) from None

    @contextmanager
    def virtual_host(self, name: str) -> Iterator[None]:
        """Create a virtual host. At the end it is deleted, with all its queues."""
        self.api("PUT", f"vhosts/{quote(name, safe='')}")
        try:
            yield
        finally:
            with suppress(BrokerAway):
                self.api("DELETE", f"vhosts/{quote(name, safe='')}")

    def url_of(self, virtual_host: str, address: Address) -> str:
        """Return the URL of a virtual host at ``address``, with the user and the password."""
        login = urlsplit(self.url).netloc.rpartition("@")[0]
        return f"amqp://{login}@{address[0]}:{address[1]}/{quote(virtual_host, safe='')}"


@contextmanager
def own_broker(kind: str | None) -> Iterator[LabBroker]:
    """Start a broker that nothing else uses, and stop it at the end.

    Args:
        kind: "private" or "container"; default: a private node if this machine can run one.
    """
    with temporary_broker(kind, f"heartbeat = {HEARTBEAT}\n") as broker:
        node = SingleNode(broker)
        yield LabBroker(broker.record.url, broker.record.management_url, broker.record.version, node)


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


class AppTrial:
    """One trial: its own virtual host, workers, producers and records. All end with the ``with`` block."""

    #: Seconds of work in a trial; the fewest calls for each pool process, and the most calls.
    _LASTS, _FEWEST, _MOST = 6.0, 4, 60
    #: How much faster calls are made than they can be executed.
    _FASTER = 1.6
    #: Calls per second, at most.
    _FASTEST = 50

    def __init__(self, lab: Lab, name: str, call: str) -> None:
        """Create a trial without processes."""
        self.lab, self.name, self.call = lab, name, call
        self.folder = lab.folder / name
        self.records = TrialRecords(self.folder / "records")
        self.count = lab.calls or self._count()
        self._stack = ExitStack()
        self._started = 0
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

    def __enter__(self) -> Self:
        """Start the workers, and wait until they are ready.

        Raises:
            UsageError: they do not start.
        """
        broker = self.lab.broker
        self.records.folder.mkdir(parents=True)
        with ExitStack() as stack:
            stack.enter_context(broker.virtual_host(self.name))
            self.proxy = stack.enter_context(closing(Proxy(broker.address)))
            url = broker.url_of(self.name, ("127.0.0.1", self.proxy.port))
            self._plugin = make_folder(
                self.folder / "plugin", Configuration(str(self.records.folder), url, self.lab.change)
            )
            self._environment = {
                **dict.fromkeys(
                    ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), url
                ),
                **self.lab.change.environment,
            }
            self._declare_dead_letters()
            output = stack.enter_context((self.folder / "stdout.log").open("w"))
            self.group = stack.enter_context(ProcessGroup(self.folder / "logs", output))
            for _ in range(self.lab.workers):
                self.start_worker()
            self._wait_for_workers()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes, and delete the virtual host."""
        self._stack.close()

    def _declare_dead_letters(self) -> None:
        """Declare the dead-letter exchange of the change, with a queue: the advice says to do so."""
        exchange = self.lab.change.queue_arguments.get("x-dead-letter-exchange")
        if exchange is None:
            return
        host, name = quote(self.name, safe=""), quote(exchange, safe="")
        api = self.lab.broker.api
        api("PUT", f"exchanges/{host}/{name}", {"type": "fanout", "durable": True})
        api("PUT", f"queues/{host}/{name}", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
        api("POST", f"bindings/{host}/e/{name}/q/{name}", {"routing_key": ""})

    # The processes.

    def start_worker(self) -> StartedProcess:
        """Start a worker by the user's own command."""
        self._started += 1
        words = shlex.split(self.lab.command)
        if words[0] == "celery":  # that of this environment, which has the plugin
            words[:1] = [sys.executable, "-m", "celery"]
        if self.lab.workers > 1:
            words += ["-n", f"prove-{self._started}@%h"]
        before = psutil.Process().environ().get("PYTHONPATH", "")
        path = f"{self._plugin}:{before}" if before else str(self._plugin)
        try:
            return self.group.run(
                "worker", str(self._started), words, {**self._environment, "PYTHONPATH": path}
            )
        except OSError as error:
            raise UsageError(
                "The workers cannot be started: {program}: {why}.", program=words[0], why=error.strerror
            ) from None

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
        self._started += 1
        self.producers += 1
        task, arguments = self._call()
        calls = Calls(
            app=self.lab.app,
            task=task,
            arguments=arguments,
            first=first,
            last=self.count,
            pause=self._pause,
            options={"countdown": COUNTDOWN} if self.call == ETA else {},
            plugin=str(self._plugin / "plugin.json"),
        )
        path = self.folder / f"calls-{self._started}.json"
        calls.write(path)
        self.producer = self.group.start(
            "producer", str(self._started), ["baozi.prove.producer", str(path)], self._environment
        )
        return self.producer

    def _call(self) -> tuple[str, list[Any]]:
        if self.call == RETRY:
            return tasks.RETRIED, [[self.lab.task_seconds]]
        if self.lab.task is None:
            return tasks.WORK, [[0.1]]
        return self.lab.task, list(self.lab.arguments) or [[]]

    # Waiting.

    def wait_until(self, seen: Callable[[], Seen], what: str, seconds: float) -> Seen:
        """Return what ``seen`` returns as soon as it is true; refresh the records before each look.

        Raises:
            TooLate: it is not true in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.records.refresh()
            if result := seen():
                return result
            if time.monotonic() > deadline:
                raise TooLate("Waited {seconds:g} s in vain for {what}.", seconds=seconds, what=what)
            time.sleep(_LOOK_EVERY)

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
            time.sleep(_LOOK_EVERY)
        return self._stopped()

    def _stopped(self) -> str:
        if self.records.produced < self.producers:
            if self.producer.process.poll() is None:
                return (
                    "apply_async does not return" if self.records.calling else "the producer does not go on"
                )
            return f"the producer ended: {masked(self.producer.last_log_line())}"
        for started in self.group.processes:
            code = started.process.poll()
            if started.role == "worker" and code is not None and started.process.pid not in self._killed:
                return f"a worker ended by itself (exit code {code}): {masked(started.last_log_line())}"
        return ""

    def queued(self) -> Mapping[str, bool]:
        """Stop the workers; return the ids that are in a queue, and whether workers consume that queue."""
        consumed = {name for worker in self.records.workers for name in worker.queues}
        self.group.stop()
        found: dict[str, bool] = {}
        url = self.lab.broker.url_of(self.name, self.lab.broker.address())
        with connect("prove", _ANSWER, url) as connection:
            for queue in self._queues():
                name = queue["name"]
                if name.startswith(_OF_CELERY) or name.endswith(_OF_CELERY) or queue.get("type") == "stream":
                    continue
                works = name in consumed or name.startswith("celery_delayed_")
                for task_id in _ids(connection, name):
                    found[task_id] = works or found.get(task_id, False)
        return found

    def _queues(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lab.broker.api("GET", f"queues/{quote(self.name, safe='')}")
        return found


def _ids(connection: Any, queue: str) -> Iterator[str]:
    """Yield the task id of each message in ``queue``. The messages stay there."""
    with suppress(AMQPError):  # its worker has ended, so the queue is already deleted
        channel = connection.channel()
        while (message := channel.basic_get(queue)) is not None:
            yield str((message.headers or {}).get("id") or message.properties.get("correlation_id"))
        channel.close()
