"""One measurement: processes on a bench of their own, looked at from outside, gone at the end."""

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

#: Seconds that any one step may take: filling a queue with a million is the longest.
_DEADLINE = 600
#: Seconds between two looks at what is eaten; at how much memory is used.
_LOOK_EVERY, _WEIGH_EVERY = 0.05, 0.25
#: Seconds for the first one to be eaten.
_START = 60
#: Seconds after which a consumer that is still eating is stopped: its rate is known by then.
_LONG_ENOUGH = 4
#: The first tenth is warm-up.
_WARM_UP = 0.1
_numbers = count()


class TooSlow(BaoziError):
    """A measurement did not end in time."""


@dataclass(frozen=True)
class Stand:
    """Where one measurement is made."""

    folder: Path
    url: str
    process_group: ProcessGroup

    def environment(self, eater: Eater | None = None) -> dict[str, str]:
        """What our own programs are told; everybody else reads the bench."""
        ours = {
            "BAOZI_BROKER_URL": self.url,
            "BAOZI_HOME": str(self.folder),
            "BAOZI_LEDGER_URL": file_url(self.ledger).render_as_string(),
        }
        return ours | dict(eater.environment if eater else ())

    @property
    def said(self) -> Path:
        """What the publisher prints."""
        return self.folder / "said"

    @property
    def complained(self) -> Path:
        """What the publisher complains of."""
        return self.folder / "complained"

    @property
    def ledger(self) -> Path:
        """The file of our ledger."""
        return self.folder / "ledger.sqlite3"

    @property
    def journals(self) -> Path:
        """The folder of our workers' journals, where they are asked for."""
        return self.folder / "journals"

    @contextmanager
    def publishing(self, publisher: PublishingContender, **limits: float) -> Iterator[psutil.Popen]:
        """Run a publisher meanwhile; at the end it has ended, and well.

        Raises:
            BaoziError: it failed; says its last words.
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
        """Run a publisher to its end, and return its ``count`` and ``seconds``."""
        with self.publishing(publisher, **limits):
            pass
        said: dict[str, float] = json.loads(self.said.read_text().splitlines()[-1])
        return said

    def publish_and_weigh(self, publisher: PublishingContender, **limits: float) -> int:
        """Run a publisher to its end, and return the most bytes that it had to itself."""
        most = 0
        with self.publishing(publisher, **limits) as process:
            while process.poll() is None:
                most = max(most, memory_of([process]))
                time.sleep(_WEIGH_EVERY)
        return most

    def start(self, eater: Eater, *, journal: bool = False) -> list[StartedProcess]:
        """Start a consumer's processes; ours with a ``journal`` of the time after each commit."""
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
        """How many are eaten by now: the ledger's rows, or the tally."""
        if not eater.ours:
            return read_tally(self.folder)[0]
        with contextlib.closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as ledger:
            return int(ledger.execute("SELECT count(*) FROM eaten").fetchone()[0])

    def wait_for(self, eater: Eater, count: int) -> None:
        """Return when so many are eaten.

        Raises:
            TooSlow: they were not in time.
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
    """Yield a stand: an empty virtual host, an empty folder; all that it starts is stopped at the end."""
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
                # The queue goes with the virtual host: there is nothing to finish.
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
    """Return how many a second are eaten until ``goal`` are, or long enough, the warm-up left out.

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
    # From the first look that saw a tenth to the first that saw the last number.
    first = next(sample for sample in samples if sample[1] >= samples[-1][1] * _WARM_UP)
    last = next(sample for sample in samples if sample[1] == samples[-1][1])
    if last[0] <= first[0]:
        raise TooSlow(f"{eater.name} was too fast for a look every {_LOOK_EVERY} s: give it more.")
    return (last[1] - first[1]) / (last[0] - first[0])


def waits(values: list[float]) -> tuple[float, float]:
    """Return median and 99th percentile of ``values``, the first tenth left out."""
    values = values[int(len(values) * _WARM_UP) :]
    return median(values), quantiles(values, n=100)[98]


def memory_of(processes: list[psutil.Popen]) -> int:
    """Return the bytes that the largest of ``processes`` and their children has to itself."""
    sizes = [0]
    for parent in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [parent, *parent.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    sizes.append(int(process.memory_full_info().uss))
    return max(sizes)
