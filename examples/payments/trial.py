"""Runs one of the two apps under faults: starts its workers and producers, injects the faults, and counts."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar
from urllib.parse import urlsplit

import psutil
from baozi.broker.temporary import queue_state
from baozi.errors import BrokerError, DeadlinePassed
from baozi.faults.proxy import Proxy
from baozi.faults.single_node import SingleNode
from baozi.process_group import ProcessGroup, StartedProcess
from examples.payments.bank import Bank
from examples.payments.faults import Fault, chosen
from pydantic import BaseModel
from side_by_side.multiprocessing_group import ProcessFailed
from sqlalchemy.exc import OperationalError

Seen = TypeVar("Seen")

#: The number of workers, of pool processes of each worker, and of producers.
WORKERS, PROCESSES, PRODUCERS = 2, 2, 2
#: The payments are divided into one part for each fault. The producers may be this many parts ahead.
_LEAD = 5
#: Seconds between two checks of a condition.
_LOOK_EVERY = 0.05
#: Seconds without any change after which a wait fails, and after which workers count as hung and are killed.
_GIVEN_UP, _HUNG = 180, 60
#: Seconds within which a fault must find a target that is working.
_AIM = 20
#: Seconds without a change after which the counts are final: if all payments are booked, and if some are not.
_ALL_BOOKED, _SOME_LOST = 2, 30
#: The largest number of restarts of processes that ended by themselves.
_RESTARTS = 50


class Plan(BaseModel):
    """The parameters of a trial."""

    payments: int
    kills: int
    seed: int


class Injected(BaseModel):
    """One fault that was injected."""

    fault: Fault
    at: float
    """Seconds after the start."""
    in_flight: int
    """Payments that were accepted and not booked at that moment. For a killed producer: those left to put."""


class Sums(BaseModel):
    """The counts of one app at the end."""

    app: str
    accepted: int
    """Payments that the broker confirmed."""
    once: int
    """Accepted payments that are booked once."""
    lost: int
    """Accepted payments that are not booked."""
    twice: int
    """Accepted payments that are booked more than once."""
    difference: int
    """Cents by which the accounts, in total, differ from what the accepted payments give."""
    faults: list[Injected]
    restarts: int
    """How many processes ended by themselves or hung, and were restarted."""
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether each accepted payment was booked once."""
        return not (self.lost or self.twice or self.difference)


class Trial:
    """Runs one app under faults."""

    def __init__(
        self,
        app: str,
        queue: str,
        plan: Plan,
        broker: SingleNode,
        bank: Bank,
        folder: Path,
        say: Callable[[str], object],
    ) -> None:
        """Set the parameters. Nothing is started yet.

        Args:
            app: the name of the app's module in :mod:`examples.payments`.
            queue: the name of its queue.
            plan: the number of payments and kills, and the seed.
            broker: the broker.
            bank: the app's database.
            folder: the folder for journals and logs.
            say: called with a text about the progress.
        """
        self._app, self._queue, self._plan = app, queue, plan
        self._broker, self._bank, self._folder, self._say = broker, bank, folder, say
        self._faults = list(chosen(plan.seed, plan.kills, bank.address is not None))
        #: Payments from one fault to the next.
        self._part = plan.payments // (len(self._faults) + _LEAD)
        self._chance = Random(plan.seed)
        self._injected: list[Injected] = []
        self._workers: list[StartedProcess] = []
        self._producers: dict[int, StartedProcess] = {}
        #: How many payments each producer's journal had when the producer was started.
        self._began_at: dict[int, int] = {}
        self._names = Counter[str]()
        self._restarts = 0
        self._moved_at, self._seen = time.monotonic(), (0, 0)
        self._allowed = 0
        self._path = ""
        self._began = 0.0

    def run(self) -> Sums:
        """Run the trial and return the counts. All processes have ended afterwards.

        Raises:
            DeadlinePassed: nothing changed for three minutes. The message says what was awaited.
            ProcessFailed: processes ended too often. The message has the last line of a log.
            BrokerAway: the broker does not answer.
        """
        self._began = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            url = stack.enter_context(self._broker.broker.virtual_host(self._app))
            self._path = urlsplit(url).path
            self._proxy = stack.enter_context(closing(Proxy(partial(self._broker.address, 0))))
            address = self._bank.address
            self._database_proxy = address and stack.enter_context(closing(Proxy(lambda: address)))
            output = stack.enter_context(Path(os.devnull).open("w"))
            self._process_group = stack.enter_context(ProcessGroup(self._folder / "logs", output))
            self._allow(0)
            for _ in range(WORKERS):
                self._start_worker()
            self._wait(lambda: self._asked()[1] >= WORKERS, "the workers to consume")
            for first in range(PRODUCERS):
                self._start_producer(first)
            self._inject()
            self._allow(self._plan.payments)
            self._wait(self._all_put, "the producers to put all payments")
            self._wait(self._is_settled, "the workers to book all payments")
        return self._sums(time.monotonic() - self._began)

    # The workers and producers.

    def _environment(self) -> dict[str, str]:
        database = self._bank.url
        if self._database_proxy:
            database = self._bank.url_through(self._database_proxy.port)
        return {
            "PAYMENTS_BROKER": self._url("127.0.0.1", self._proxy.port),
            "PAYMENTS_DATABASE": database,
            "BAOZI_HOME": str(self._folder),
        }

    def _url(self, host: str, port: int) -> str:
        return f"amqp://{self._broker.login}@{host}:{port}{self._path}"

    def _start_worker(self) -> None:
        name = self._new_name("worker")
        program = ["celery", "--quiet", "-A", f"examples.payments.{self._app}", "worker", "-n", f"{name}@%h"]
        options = ["-c", str(PROCESSES)]
        self._workers.append(
            self._process_group.start("worker", name, [*program, *options], self._environment())
        )

    def _start_producer(self, first: int) -> None:
        share = map(str, (self._plan.seed, first, PRODUCERS, self._plan.payments))
        files = map(str, (self._journal(first), self._folder / "allowed"))
        program = ["examples.payments.producer", self._app, *share, *files]
        name = self._new_name("producer")
        self._began_at[first] = self._put(first)
        self._producers[first] = self._process_group.start("producer", name, program, self._environment())

    def _new_name(self, role: str) -> str:
        self._names[role] += 1
        return f"{role[0]}{self._names[role]}"

    def _journal(self, first: int) -> Path:
        return self._folder / f"{first}.journal"

    def _allow(self, count: int) -> None:
        self._allowed = min(count, self._plan.payments)
        new = self._folder / "allowed.new"
        new.write_text(str(self._allowed))
        new.replace(self._folder / "allowed")

    def _end(self, started: StartedProcess) -> None:
        """Kill a process and all its children with SIGKILL."""
        with suppress(psutil.NoSuchProcess):
            for process in started.process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        with suppress(ProcessLookupError):
            os.killpg(started.process.pid, signal.SIGKILL)
        started.process.wait()
        self._process_group.processes.remove(started)

    def _tend(self) -> None:
        """Restart processes that ended by themselves, as a service manager does, and workers that hang."""
        rows, accepted = self._bank_rows(), self._accepted()
        if (rows, accepted) != self._seen:
            self._moved_at, self._seen = time.monotonic(), (rows, accepted)
        hung = time.monotonic() - self._moved_at > _HUNG and rows < accepted
        for worker in list(self._workers):
            if hung or worker.process.poll() is not None:
                self._count_restart(worker)
                self._workers.remove(worker)
                self._end(worker)
                self._start_worker()
        if hung:
            self._moved_at = time.monotonic()
        for first, producer in self._producers.items():
            if producer.process.poll():
                self._count_restart(producer)
                self._end(producer)
                self._start_producer(first)

    def _count_restart(self, started: StartedProcess) -> None:
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise ProcessFailed(f"The {started.role} {started.name} ended again: {started.last_log_line()}")

    # The observed state.

    def _put(self, first: int) -> int:
        """Return how many of its payments a producer has written to its journal as confirmed."""
        with suppress(FileNotFoundError), self._journal(first).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 40))
            lines = file.read().split(b"\n")[:-1]
            if lines:
                return (int(lines[-1]) - first) // PRODUCERS + 1
        return 0

    def _accepted(self) -> int:
        return sum(map(self._put, range(PRODUCERS)))

    def _all_put(self) -> bool:
        return all(it.process.poll() == 0 for it in self._producers.values())

    def _bank_rows(self) -> int:
        try:
            return self._bank.rows()
        except OperationalError:
            return self._seen[0]

    def _asked(self) -> tuple[int, int]:
        """Return the numbers of ready messages and of consumers, without using the proxy."""
        try:
            return queue_state(self._url(*self._broker.address(0)), self._queue)
        except BrokerError:
            return 0, 0

    def _is_settled(self) -> bool:
        quiet = time.monotonic() - self._moved_at
        if quiet < _ALL_BOOKED or self._asked()[0]:
            return False
        return quiet > _SOME_LOST or self._bank.booked() >= self._plan.payments

    def _wait(self, seen: Callable[[], Seen], what: str, seconds: float = _GIVEN_UP) -> Seen:
        """Wait until ``seen`` returns a true value. Return that value.

        Raises:
            DeadlinePassed: nothing was put or booked for so many ``seconds``.
        """
        began = self._moved_at = time.monotonic()
        while not (result := seen()):
            self._tend()
            if time.monotonic() - max(began, self._moved_at) > seconds:
                raise DeadlinePassed(f"Waited {seconds:g} s in vain for {what}.")
            self._say(
                f"{self._app}: {self._seen[0]} booked, {len(self._injected)} of {len(self._faults)} faults"
            )
            time.sleep(_LOOK_EVERY)
        return result

    # The faults.

    def _inject(self) -> None:
        """Inject the faults, distributed evenly over the payments."""
        for number, fault in enumerate(self._faults):
            self._allow(max(self._allowed, (number + _LEAD) * self._part))
            least = number * self._part
            self._wait(partial(self._has_come_to, least), "payments to be put and booked")
            in_flight = self._do(fault)
            at = time.monotonic() - self._began
            self._injected.append(Injected(fault=fault, at=at, in_flight=in_flight))

    def _has_come_to(self, least: int) -> bool:
        """Return whether so many are accepted, and the workers are not far behind or have nothing left.

        Without the second condition, most faults would come while the first payments are booked.
        """
        if self._accepted() <= least:
            return False
        return self._bank_rows() > least - _LEAD * self._part or not self._asked()[0]

    def _do(self, fault: Fault) -> int:
        if fault is Fault.PRODUCER:
            return self._kill_producer()
        in_flight = self._aim(fault in {Fault.CHILD, Fault.WORKER})
        worker = self._chance.choice(self._workers)
        if fault is Fault.CHILD:
            with suppress(psutil.NoSuchProcess, IndexError):
                self._chance.choice(worker.process.children()).kill()
        elif fault is Fault.WORKER:
            self._workers.remove(worker)
            self._end(worker)
            self._start_worker()
        elif fault is Fault.BROKER:
            self._broker.kill(self._chance)
            self._broker.revive()
        elif fault is Fault.CUT_BROKER:
            self._proxy.cut(reset=True)
        elif self._database_proxy:
            self._database_proxy.cut(reset=True)
        return in_flight

    def _aim(self, at_workers: bool) -> int:
        """Wait until payments are accepted and not booked. Return their number.

        Before a fault in a worker, also wait until all workers consume and messages are ready: then each
        worker has prefetched as many as it may.
        """

        def in_flight() -> int:
            ready, consumers = self._asked() if at_workers else (1, WORKERS)
            if not ready or consumers < WORKERS or not all(it.process.children() for it in self._workers):
                return 0
            return max(0, self._accepted() - self._bank.booked())

        return self._found(in_flight, "payments to be in flight", lambda: self._seen[0] >= self._accepted())

    def _kill_producer(self) -> int:
        def at_work() -> list[tuple[int, int]]:
            shares = {first: len(range(first, self._allowed, PRODUCERS)) for first in range(PRODUCERS)}
            left = [(first, count - self._put(first)) for first, count in shares.items()]
            # A producer that has put something since its start has finished loading.
            return [
                (first, count)
                for first, count in left
                if count > 0 and self._put(first) > self._began_at[first]
            ]

        found = self._found(at_work, "a producer to put", lambda: True)
        first, left = self._chance.choice(found or [(0, 0)])
        self._end(self._producers[first])
        self._start_producer(first)
        return left

    def _found(self, seen: Callable[[], Seen], what: str, has_room: Callable[[], bool]) -> Seen:
        """Wait until ``seen`` returns a true value, for at most ``_AIM`` seconds. Return its last value.

        If all allowed payments are put, and ``has_room`` returns true, allow more.
        """
        deadline = time.monotonic() + _AIM

        def look() -> tuple[Seen] | None:
            found = seen()
            if not found and self._accepted() >= self._allowed and has_room():
                self._allow(self._allowed + self._part)
            return (found,) if found or time.monotonic() > deadline else None

        found = self._wait(look, what)
        return found[0] if found else seen()

    # The end.

    def _sums(self, seconds: float) -> Sums:
        accepted = [
            number
            for first in range(PRODUCERS)
            for number in range(first, self._plan.payments, PRODUCERS)[: self._put(first)]
        ]
        times = self._bank.bookings()
        counts = Counter(min(times[f"p-{number}"], 2) for number in accepted)
        return Sums(
            app=self._app,
            accepted=len(accepted),
            once=counts[1],
            lost=counts[0],
            twice=counts[2],
            difference=self._bank.difference(self._plan.seed, accepted),
            faults=self._injected,
            restarts=self._restarts,
            seconds=seconds,
        )
