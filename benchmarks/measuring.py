"""Runs one measurement: starts the processes in an isolated environment, observes them, and ends them."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median, quantiles

import psutil

from baozi.broker.temporary import TemporaryBroker
from baozi.errors import BaoziError
from baozi.ledger_url import file_url
from baozi.process_group import ProcessGroup, StartedProcess
from benchmarks.bench import Bench
from benchmarks.contenders import Eater, PublishingContender
from benchmarks.tally import new_tally, read_tally

#: Seconds that one step may take. The longest step fills a queue with a million messages.
_DEADLINE = 600
#: Seconds between two readings of the count, and of the memory.
_LOOK_EVERY, _WEIGH_EVERY = 0.05, 0.25
#: Seconds within which the first baozi must be eaten.
_START = 60
#: Seconds after which a consumer is stopped, because its rate is known.
_LONG_ENOUGH = 4
#: The part of a measurement that is left out as warm-up.
_WARM_UP = 0.1
_numbers = count()


class TooSlow(BaoziError):
    """A measurement did not end in time."""


@dataclass(frozen=True)
class Stand:
    """The environment of one measurement: a folder, a virtual host and the processes."""

    folder: Path
    url: str
    process_group: ProcessGroup

    def environment(self, eater: Eater | None = None) -> dict[str, str]:
        """Return the variables for Baozi's programs. The peers read the file of :class:`Bench`."""
        ours = {
            "BAOZI_BROKER_URL": self.url,
            "BAOZI_HOME": str(self.folder),
            "BAOZI_LEDGER_URL": file_url(self.ledger).render_as_string(),
        }
        return ours | dict(eater.environment if eater else ())

    @property
    def said(self) -> Path:
        """The file with the publisher's stdout."""
        return self.folder / "said"

    @property
    def complained(self) -> Path:
        """The file with the publisher's stderr."""
        return self.folder / "complained"

    @property
    def ledger(self) -> Path:
        """The file of Baozi's ledger."""
        return self.folder / "ledger.sqlite3"

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
        publisher.bench(self.url).set_up(self.folder)
        with self.said.open("w") as out, self.complained.open("w") as err:
            process = psutil.Popen(
                [sys.executable, "-m", *publisher.arguments(**limits)],
                cwd=self.folder,
                env={**os.environ, **self.environment(), **dict(publisher.environment)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        try:
            yield process
            if process.wait(_DEADLINE):
                raise BaoziError(f"{publisher.name} failed: {self.complained.read_text().strip()[-300:]}")
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
        with self.publishing(publisher, **limits) as process:
            while process.poll() is None:
                most = max(most, memory_of([process]))
                time.sleep(_WEIGH_EVERY)
        return most

    def start(self, eater: Eater, *, journal: bool = False) -> list[StartedProcess]:
        """Start the processes of a consumer. With ``journal``, Baozi's worker writes a journal."""
        Bench(self.url, eater.confirm).set_up(self.folder)
        environment = self.environment(eater)
        if journal:
            environment["BAOZI_JOURNAL"] = str(self.journals)
        return [
            self.process_group.start(
                "worker",
                f"{number}",
                [word.replace("{number}", str(number)) for word in eater.worker],
                environment,
                self.folder,
            )
            for number in range(eater.processes)
        ]

    def eaten(self, eater: Eater) -> int:
        """Return how many baozi are eaten so far, from the ledger or from the tally."""
        if not eater.ours:
            return read_tally(self.folder)[0]
        with contextlib.closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as ledger:
            return int(ledger.execute("SELECT count(*) FROM eaten").fetchone()[0])

    def wait_for(self, eater: Eater, count: int) -> None:
        """Wait until ``count`` baozi are eaten.

        Raises:
            TooSlow: they were not eaten within the timeout.
        """
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(sqlite3.Error):  # the ledger is not made yet
                if self.eaten(eater) >= count:
                    return
            if time.monotonic() > deadline:
                raise TooSlow(f"{eater.name} did not eat {count} within {_START} s.")
            time.sleep(_LOOK_EVERY)


@contextmanager
def stand(broker: TemporaryBroker) -> Iterator[Stand]:
    """Yield a new environment with an empty virtual host and folder. Its processes are ended afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="baozi-bench-"))
    try:
        new_tally(folder)
        with (
            broker.virtual_host(f"bench-{next(_numbers)}", "quorum") as url,
            Path(os.devnull).open("w") as nowhere,
            ProcessGroup(folder / "logs", nowhere) as process_group,
        ):
            try:
                yield Stand(folder, url, process_group)
            finally:
                # Killed, because the queue is deleted with the virtual host.
                for started in process_group.processes:
                    _kill(started)
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
    deadline = time.monotonic() + _START
    while True:
        time.sleep(_LOOK_EVERY)
        with contextlib.suppress(sqlite3.Error):  # the ledger is not made yet
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
        raise TooSlow(f"{eater.name} was too fast for a look every {_LOOK_EVERY} s: give it more.")
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
