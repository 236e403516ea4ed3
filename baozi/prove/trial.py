"""One trial of an app: a virtual host, workers, producers and records. All end with the ``with`` block."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import psutil
from amqp.exceptions import AMQPError

from baozi.amqp.connection import connect
from baozi.errors import BaoziError, UsageError
from baozi.faults.proxy import Proxy
from baozi.process_group import ProcessGroup, StartedProcess
from baozi.prove.lab_broker import LabBroker
from baozi.prove.plugin import Change, Configuration, make_folder
from baozi.prove.producer import Calls
from baozi.prove.records import TrialRecords

Seen = TypeVar("Seen")

#: Seconds between two looks at the records; for one answer of the broker.
LOOK_EVERY, _ANSWER = 0.05, 10
#: Queues of Celery itself.
_OF_CELERY = ("celeryev", "celery.pidbox", "reply.celery.pidbox")


class TooLate(BaoziError):
    """Something did not happen in time."""


class Trial:
    """The processes of one app on one virtual host, which connect through a proxy."""

    def __init__(
        self,
        broker: LabBroker,
        folder: Path,
        name: str,
        change: Change | None = None,
        app_folder: Path | None = None,
    ) -> None:
        """Create a trial without processes.

        Args:
            broker: where the virtual host is made.
            folder: a new folder for records and logs.
            name: the name of the virtual host.
            change: what is written over the app's settings.
            app_folder: the working directory of its processes; default: that of this process.
        """
        self.broker, self.folder, self.name = broker, folder, name
        self.change, self.app_folder = change or Change(), app_folder
        self.records = TrialRecords(folder / "records")
        self._stack = ExitStack()
        self._started = 0

    def __enter__(self) -> Self:
        """Make the virtual host, the proxy and the plugin."""
        self.records.folder.mkdir(parents=True)
        with ExitStack() as stack:
            stack.enter_context(self.broker.virtual_host(self.name))
            self.proxy = stack.enter_context(closing(Proxy(self.broker.address)))
            url = self.url = self.broker.url_of(self.name, ("127.0.0.1", self.proxy.port))
            self._plugin = make_folder(
                self.folder / "plugin", Configuration(str(self.records.folder), url, self.change)
            )
            self._environment = {
                **dict.fromkeys(
                    ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), url
                ),
                **self.change.environment,
            }
            output = stack.enter_context((self.folder / "stdout.log").open("w"))
            self.group = stack.enter_context(ProcessGroup(self.folder / "logs", output))
            self._prepare()
            self._stack = stack.pop_all()
        return self

    def _prepare(self) -> None:
        """Do what belongs to the start of the trial. If it raises an error, all that was made is removed."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes, and delete the virtual host."""
        self._stack.close()

    def declare_dead_letters(self, exchange: str) -> None:
        """Declare a dead-letter exchange with a queue, both of this name."""
        host, name = quote(self.name, safe=""), quote(exchange, safe="")
        api = self.broker.api
        api("PUT", f"exchanges/{host}/{name}", {"type": "fanout", "durable": True})
        api("PUT", f"queues/{host}/{name}", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
        api("POST", f"bindings/{host}/e/{name}/q/{name}", {"routing_key": ""})

    # The processes.

    def run_worker(
        self, words: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> StartedProcess:
        """Start a worker by a command.

        Args:
            words: the command. The program ``celery`` is that of this environment, which has the plugin.
            environment: more variables.

        Raises:
            UsageError: the program cannot be started.
        """
        self._started += 1
        if words[0] == "celery":
            words = [sys.executable, "-m", "celery", *words[1:]]
        before = psutil.Process().environ().get("PYTHONPATH", "")
        path = f"{self._plugin}:{before}" if before else str(self._plugin)
        variables = {**self._environment, "PYTHONPATH": path, **(environment or {})}
        try:
            return self.group.run("worker", str(self._started), words, variables, self.app_folder)
        except OSError as error:
            raise UsageError(
                "The workers cannot be started: {program}: {why}.", program=words[0], why=error.strerror
            ) from None

    def run_producer(
        self,
        app: str,
        task: str,
        arguments: list[Any],
        count: int,
        first: int = 0,
        pause: float = 0,
        options: Mapping[str, Any] | None = None,
    ) -> StartedProcess:
        """Start a producer, which calls a task of the app. The parameters are those of ``Calls``."""
        self._started += 1
        calls = Calls(
            app, task, arguments, first, count, pause, options or {}, str(self._plugin / "plugin.json")
        )
        path = self.folder / f"calls-{self._started}.json"
        calls.write(path)
        return self.group.start(
            "producer",
            str(self._started),
            ["baozi.prove.producer", str(path)],
            self._environment,
            self.app_folder,
        )

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
                raise TooLate("Waited {seconds:g} s for {what}, without success.", seconds=seconds, what=what)
            time.sleep(LOOK_EVERY)

    # The queues.

    def queued(self) -> Mapping[str, bool]:
        """Stop the workers; return the ids that are in a queue, and whether workers consume that queue."""
        consumed = {name for worker in self.records.workers for name in worker.queues}
        self.group.stop()
        found: dict[str, bool] = {}
        url = self.broker.url_of(self.name, self.broker.address())
        with connect("prove", _ANSWER, url) as connection:
            for queue in self.queues():
                name = queue["name"]
                if name.startswith(_OF_CELERY) or name.endswith(_OF_CELERY) or queue.get("type") == "stream":
                    continue
                works = name in consumed or name.startswith("celery_delayed_")
                for task_id in _ids(connection, name):
                    found[task_id] = works or found.get(task_id, False)
        return found

    def queues(self) -> list[dict[str, Any]]:
        """Return what the management API says of each queue."""
        found: list[dict[str, Any]] = self.broker.api("GET", f"queues/{quote(self.name, safe='')}")
        return found


def _ids(connection: Any, queue: str) -> Iterator[str]:
    """Yield the task id of each message in ``queue``. The messages stay there."""
    with suppress(AMQPError):  # its worker has ended, so the queue is already deleted
        channel = connection.channel()
        while (message := channel.basic_get(queue)) is not None:
            yield str((message.headers or {}).get("id") or message.properties.get("correlation_id"))
        channel.close()
