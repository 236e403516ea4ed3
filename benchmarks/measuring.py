"""Runs one measurement: starts the processes in an isolated environment, observes them, and ends them."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median, quantiles

import psutil

from baozi.broker.temporary import TemporaryBroker
from baozi.errors import BaoziError
from baozi.process_group import ProcessGroup, StartedProcess
from benchmarks import c_client
from benchmarks.bench import Bench
from benchmarks.contenders import POSTGRESQL, SQLITE, Eater, PublishingContender
from benchmarks.databases import Database, DatabaseServer, SQLiteDatabase
from benchmarks.not_measured import NotMeasured
from benchmarks.tally import new_tally, read_tally

#: Seconds that one step may take. The longest step fills a queue with a million messages.
_DEADLINE = 600
#: Seconds between two readings of the count: usually, and of a count so small that reading it costs nothing.
_LOOK_EVERY, _LOOK_OFTEN = 0.05, 0.01
_SMALL = 5_000
#: Seconds between two readings of the memory.
_WEIGH_EVERY = 0.25
#: Seconds within which the first baozi must be eaten, and in which Flower must answer.
_START = 60
#: Seconds after which a consumer is stopped, because its rate is known.
_LONG_ENOUGH = 4
#: The part of a measurement that is left out as warm-up.
_WARM_UP = 0.1
_numbers = count()


class TooSlow(BaoziError):
    """A measurement did not end in time."""


class Rig:
    """What all measurements on one broker share: the broker, the PostgreSQL server and the client in C."""

    def __init__(self, broker: TemporaryBroker, postgresql: DatabaseServer, folder: Path) -> None:
        """Use ``broker`` and ``postgresql``. Compile the client in C into ``folder``, if that is possible."""
        self.broker, self.postgresql = broker, postgresql
        self._c_client: tuple[Path, str] | NotMeasured
        try:
            self._c_client = c_client.compiled(folder)
        except NotMeasured as error:
            self._c_client = error

    def c_client(self) -> str:
        """Return the path of the client in C.

        Raises:
            NotMeasured: it was not compiled.
        """
        if isinstance(self._c_client, NotMeasured):
            raise self._c_client
        return str(self._c_client[0])

    @property
    def versions(self) -> dict[str, str]:
        """The versions of what was used, by name."""
        found = {"postgresql": self.postgresql.version}
        if not isinstance(self._c_client, NotMeasured):
            found["librabbitmq"] = self._c_client[1]
        return {name: version for name, version in found.items() if version}


@dataclass(frozen=True)
class Stand:
    """The environment of one measurement: a folder, a virtual host, the databases and the processes."""

    folder: Path
    url: str
    process_group: ProcessGroup
    rig: Rig
    open: ExitStack
    """Closes the databases at the end."""
    databases: dict[str, Database] = field(default_factory=dict)

    def database(self, kind: str) -> Database:
        """Return the measurement's database of this kind, which is made when it is first needed.

        Raises:
            NotMeasured: this machine has no such database.
        """
        if kind not in self.databases:
            self.databases[kind] = (
                self.open.enter_context(self.rig.postgresql.database())
                if kind == POSTGRESQL
                else SQLiteDatabase(self.folder / "ledger.sqlite3")
            )
        return self.databases[kind]

    def environment(self, contender: Eater | PublishingContender) -> dict[str, str]:
        """Return the variables for Baozi's programs. The peers read the file of :class:`Bench`."""
        ledger = self.database(contender.database or SQLITE).url.render_as_string(hide_password=False)
        ours = {
            "BAOZI_BROKER_URL": self.url,
            "BAOZI_HOME": str(self.folder),
            "BAOZI_LEDGER_URL": ledger,
        }
        return ours | dict(contender.environment)

    def set_up(self, contender: Eater | PublishingContender) -> None:
        """Write the file that the peers read.

        Raises:
            NotMeasured: this machine lacks what the contender needs.
        """
        command = contender.worker if isinstance(contender, Eater) else contender.command
        Bench(
            self.url,
            contender.confirm,
            contender.task_seconds if isinstance(contender, Eater) else 0,
            self.environment(contender)["BAOZI_LEDGER_URL"] if contender.database else "",
            self.rig.c_client() if command[0].endswith("c_peer") else "",
        ).set_up(self.folder)

    @property
    def said(self) -> Path:
        """The file with the publisher's stdout."""
        return self.folder / "said"

    @property
    def complained(self) -> Path:
        """The file with the publisher's stderr."""
        return self.folder / "complained"

    @property
    def journals(self) -> Path:
        """The folder of the journals of Baozi's workers."""
        return self.folder / "journals"

    @contextmanager
    def publishing(self, publisher: PublishingContender, **limits: float) -> Iterator[psutil.Popen]:
        """Run a publisher during the block. At the end of the block, wait until it has ended.

        Raises:
            BaoziError: the publisher failed. The message has the end of its stderr.
        """
        self.set_up(publisher)
        with self.said.open("w") as out, self.complained.open("w") as err:
            process = psutil.Popen(
                [sys.executable, "-m", *publisher.arguments(**limits)],
                cwd=self.folder,
                env={**os.environ, **self.environment(publisher)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        try:
            yield process
            if process.wait(_DEADLINE):
                raise BaoziError(f"{publisher.name} failed: {self.complained.read_text().strip()[-300:]}")
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            raise TooSlow(f"{publisher.name} was not done after {_DEADLINE} s.") from None
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def publish(self, publisher: PublishingContender, **limits: float) -> dict[str, float]:
        """Run a publisher to its end. Return the ``count`` and the ``seconds`` that it printed."""
        with self.publishing(publisher, **limits):
            pass
        said: dict[str, float] = json.loads(self.said.read_text().splitlines()[-1])
        return said

    def publish_and_weigh(self, publisher: PublishingContender, **limits: float) -> int:
        """Run a publisher to its end. Return its largest unique set size in bytes."""
        most = 0
        deadline = time.monotonic() + _DEADLINE
        with self.publishing(publisher, **limits) as process:
            while process.poll() is None and time.monotonic() < deadline:
                most = max(most, memory_of([process]))
                time.sleep(_WEIGH_EVERY)
        return most

    def start(self, eater: Eater, goal: int = 0, *, journal: bool = False) -> list[StartedProcess]:
        """Start the processes of a consumer, and Flower before them if it is to be attached.

        Args:
            eater: the consumer.
            goal: how many baozi a command that also publishes puts.
            journal: whether Baozi's worker writes a journal.

        Raises:
            NotMeasured: this machine lacks what the consumer needs.
            TooSlow: Flower did not answer in time.
        """
        self.set_up(eater)
        environment = self.environment(eater)
        if journal:
            environment["BAOZI_JOURNAL"] = str(self.journals)
        if eater.flower:
            self._start_flower(environment)
        return [
            self.process_group.start(
                "worker",
                f"{number}",
                [
                    word.replace("{number}", str(number)).replace("{count}", str(goal))
                    for word in eater.worker
                ],
                environment,
                self.folder,
            )
            for number in range(eater.processes)
        ]

    def _start_flower(self, environment: dict[str, str]) -> None:
        """Start Flower on a free port of loopback, and wait until it answers."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        options = ("--address=127.0.0.1", f"--port={port}", "--read_only")
        self.process_group.start(
            "flower",
            "flower",
            ["celery", "--quiet", "-A", "tasks", "flower", *options],
            environment,
            self.folder,
        )
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            self.process_group.check()
            if time.monotonic() > deadline:
                raise TooSlow(f"Flower did not answer within {_START} s.")
            time.sleep(_LOOK_EVERY)

    def stop(self) -> None:
        """Kill all processes. The broker puts unacknowledged messages back."""
        for started in self.process_group.processes:
            _kill(started)
        self.process_group.processes.clear()

    def eaten(self, eater: Eater) -> int:
        """Return how many baozi are eaten so far, from the database or from the tally."""
        if eater.table is None or eater.database is None:
            return read_tally(self.folder)[0]
        rows = self.database(eater.database).rows(f"SELECT count(*) FROM {eater.table}")  # noqa: S608  # ours
        return int(rows[0][0]) if rows else 0

    def wait_for(self, eater: Eater, count: int, seconds: float = _START) -> None:
        """Wait until ``count`` baozi are eaten.

        Raises:
            TooSlow: they were not eaten within the timeout.
            ProcessEndedEarly: a process failed. The message has the last line of its log.
        """
        deadline = time.monotonic() + seconds
        while True:
            if self.eaten(eater) >= count:
                return
            self.process_group.check()
            if time.monotonic() > deadline:
                raise TooSlow(f"{eater.name} did not eat {count} within {seconds:g} s.")
            time.sleep(_LOOK_EVERY)


@contextmanager
def stand(rig: Rig) -> Iterator[Stand]:
    """Yield a new environment with an empty virtual host and folder. Its processes are ended afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="baozi-bench-"))
    try:
        new_tally(folder)
        with (
            rig.broker.virtual_host(f"bench-{next(_numbers)}", "quorum") as url,
            ExitStack() as databases,
            Path(os.devnull).open("w") as nowhere,
            ProcessGroup(folder / "logs", nowhere) as process_group,
        ):
            here = Stand(folder, url, process_group, rig, databases)
            try:
                yield here
            finally:
                # Killed, because the queue is deleted with the virtual host.
                here.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kill(started: StartedProcess) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [started.process, *started.process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def rate_of(stand: Stand, eater: Eater, goal: int) -> float:
    """Return how many baozi are eaten per second, without the warm-up.

    Args:
        stand: the environment.
        eater: the consumer, which has been started.
        goal: how many baozi to wait for. After some seconds this returns earlier.

    Raises:
        TooSlow: nothing was eaten in time.
    """
    samples = [(time.monotonic(), 0)]
    look_every = stand.database(eater.database).look_every if eater.database else _LOOK_EVERY
    look_every = _LOOK_OFTEN if goal <= _SMALL else look_every
    deadline = time.monotonic() + _START
    while True:
        time.sleep(look_every)
        samples.append((time.monotonic(), stand.eaten(eater)))
        at, eaten = samples[-1]
        begun = next((moment for moment, number in samples if number), None)
        if eaten >= goal or (begun is not None and at - begun > _LONG_ENOUGH):
            break
        if (begun is None and at > deadline) or any(
            started.process.poll() for started in stand.process_group.processes
        ):
            said = " ".join(started.last_log_line() for started in stand.process_group.processes)
            raise TooSlow(f"{eater.name} ate {eaten} of {goal}: {said}")
    # From the first reading with a tenth of the final count to the first reading with all of it.
    first = next(sample for sample in samples if sample[1] >= samples[-1][1] * _WARM_UP)
    last = next(sample for sample in samples if sample[1] == samples[-1][1])
    if last[0] <= first[0]:
        raise TooSlow(f"{eater.name} was too fast for a look every {look_every} s: give it more.")
    return (last[1] - first[1]) / (last[0] - first[0])


def waits(values: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile of ``values``, without the first tenth."""
    values = values[int(len(values) * _WARM_UP) :]
    return median(values), quantiles(values, n=100)[98]


def memory_of(processes: list[psutil.Popen]) -> int:
    """Return the largest unique set size, in bytes, of ``processes`` and their children."""
    sizes = [0]
    for parent in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [parent, *parent.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    sizes.append(int(process.memory_full_info().uss))
    return max(sizes)
