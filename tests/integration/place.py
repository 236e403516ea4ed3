"""``Place``, an isolated environment for a test: its own virtual host, home folder and ledger."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from kombu import Connection, Producer

from baozi.amqp.connection import broker_url
from baozi.audit import Audit, audit
from baozi.errors import LedgerError
from baozi.journal import Event, read_journal
from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from baozi.model import Baozi
from baozi.process_group import ProcessGroup, StartedProcess
from baozi.settings import settings
from side_by_side.celery_processes import start_worker
from tests.integration.rabbitmq import Node, queue_state
from tests.waiting import wait_until

#: Seconds that one command may take; each has a deadline of its own that is shorter.
_COMMAND_TIMEOUT = 60

#: How a producer says that its queue was deleted. The second, where RabbitMQ owed the confirm of a put at
#: that moment, which then never comes: the producer finds out when it connects again.
QUEUE_IS_GONE = ("No queue takes this message", "The broker has no such exchange or queue")


class Place:
    """An isolated environment. It runs the project's commands and processes in it, as a user would."""

    def __init__(self, node: Node, virtual_host: str, home: Path, process_group: ProcessGroup) -> None:
        """Use a virtual host of ``node``, the folder ``home``, and a process group for the workers."""
        self.node = node
        self.virtual_host = virtual_host
        self.url = node.make_virtual_host(virtual_host)
        self.home = home
        self.process_group = process_group
        self.ledger_url = file_url(home / "ledger.sqlite3").render_as_string()

    def environment(self, **settings: object) -> dict[str, str]:
        """Return the variables with which a process uses this environment."""
        chosen = {"broker_url": self.url, "home": self.home, "ledger_url": self.ledger_url, **settings}
        return {f"BAOZI_{name.upper()}": str(value) for name, value in chosen.items()}

    @contextmanager
    def in_this_process(self, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Iterator[None]:
        """In this block, make the test's own process use this environment."""
        kept = (settings, broker_url)
        for name, value in self.environment(**changes).items():
            monkeypatch.setenv(name, value)
        for one in kept:
            one.cache_clear()
        yield
        for one in kept:
            one.cache_clear()

    def run(self, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
        """Run a command of ``baozi`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "baozi", *arguments],
            env={**os.environ, **self.environment(**settings)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )

    def popen(self, *arguments: str, **settings: object) -> subprocess.Popen[str]:
        """Start a command of ``baozi``."""
        return subprocess.Popen(
            [sys.executable, "-m", "baozi", *arguments],
            env={**os.environ, **self.environment(**settings)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def produce(self, run: str, name: str, count: int, *more: str, **settings: object) -> dict[str, Any]:
        """Produce ``count`` baozi with the command; return its result."""
        arguments = ["--run", run, "--name", name, "--count", str(count), "--json", *more]
        done = self.run("produce", *arguments, **settings)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def worker(
        self,
        name: str,
        pool: str = "prefork",
        processes: int = 1,
        changes: Sequence[str] = (),
        **settings: object,
    ) -> StartedProcess:
        """Start a worker, with ``changes`` of :mod:`tests.integration.mutated`; wait until it consumes."""
        # For a moment the broker may still count a worker that was killed.
        living = sum(
            one.role == "worker" and one.process.poll() is None for one in self.process_group.processes
        )
        wait_until(
            lambda: self.consumers() <= living, "the broker to miss the workers that ended", timeout=60
        )
        before = self.consumers()
        process_group = _Changing(self.process_group, changes) if changes else self.process_group
        started = start_worker(process_group, name, self.environment(**settings), processes, pool)

        def ready() -> bool:
            assert started.process.poll() is None, started.log.read_text()
            return self.consumers() > before

        wait_until(ready, f"worker {name} to consume", timeout=60)
        return started

    def consumers(self) -> int:
        """How many consumers the queue has now; none while there is no such queue."""
        return queue_state(self.url, "baozi")[1]

    def waiting(self, queue: str = "baozi") -> int:
        """How many messages are ready in ``queue``; none while there is no such queue."""
        return queue_state(self.url, queue)[0]

    def all_acknowledged(self) -> bool:
        """Whether the queue has no message any more, neither ready nor unacknowledged, by its statistics."""
        queue = self.node.api("GET", f"queues/{self.virtual_host}/baozi")
        return "messages" in queue and int(queue["messages"]) == 0

    def noted(self, event: Event) -> Counter[int]:
        """How often each number has ``event`` in the journals of workers started with ``journal=home``."""
        entries = (entry for path in self.home.glob("consumer/*.journal") for entry in read_journal(path))
        return Counter(int(it.baozi_id.rpartition("/")[2]) for it in entries if it.event is event)

    def started_and_not_eaten(self) -> set[int]:
        """The numbers that workers started with ``journal=home`` have started and not eaten."""
        return set(self.noted(Event.STARTED)) - set(self.noted(Event.EATEN))

    def sums(self, run: str) -> Audit | None:
        """The audit as it stands, or None while there is nothing to audit."""
        ledger = Ledger(self.ledger_url)
        try:
            return audit(ledger, run)
        except LedgerError:
            return None
        finally:
            ledger.close()

    def eaten(self, run: str) -> int:
        """How many different baozi of ``run`` are in the ledger."""
        sums = self.sums(run)
        return sums.total.eaten if sums else 0

    @contextmanager
    def producer(self) -> Iterator[Producer]:
        """Yield a raw kombu producer, for messages that no producer of ours would send.

        Confirmed: an unconfirmed message of 10 MB was seen to vanish on its way, without an error.
        """
        confirmed = {"confirm_publish": True}
        with Connection(self.url, connect_timeout=5, transport_options=confirmed) as connection:
            yield connection.Producer()

    def send_eat(
        self,
        producer: Producer,
        item: object,
        task: str = "tasks.eat",
        more_headers: Mapping[str, object] | None = None,
        **properties: Any,
    ) -> None:
        """Send what a Celery client would send, with ``item`` for its one argument."""
        task_id = Baozi.parse(item).task_id if isinstance(item, dict) and "number" in item else "some-id"
        headers: dict[str, object] = {
            "lang": "py",
            "task": task,
            "id": task_id,
            "argsrepr": "",
            "kwargsrepr": "",
        }
        headers |= more_headers or {}
        body = [[item], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
        producer.publish(body, exchange="baozi", routing_key="baozi", headers=headers, **properties)


class _Changing(ProcessGroup):
    """Starts its programs in another process group, each with something changed."""

    def __init__(self, process_group: ProcessGroup, changes: Sequence[str]) -> None:
        super().__init__(process_group.logs)
        self._process_group = process_group
        self._changes = changes

    def start(
        self, role: str, name: str, arguments: Sequence[str], *more: Any, **options: Any
    ) -> StartedProcess:
        program = ["tests.integration.mutated", *self._changes, "--", *arguments]
        return self._process_group.start(role, name, program, *more, **options)


def pool_children(started: StartedProcess) -> list[psutil.Process]:
    """The pool processes of a worker."""
    return list(started.process.children())


def kill(process: psutil.Process) -> None:
    """``kill -9``."""
    process.send_signal(signal.SIGKILL)
