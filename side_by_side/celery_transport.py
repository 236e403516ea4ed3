"""Runs a workload on Celery and RabbitMQ, with the worker and the producer of the main job."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil
from sqlalchemy import URL, Row, select

from baozi.broker.temporary import TemporaryBroker, consumer_count
from baozi.errors import DeadlinePassed
from baozi.journal import Entry, Event
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten
from baozi.ledger_url import file_url
from baozi.process_group import ProcessGroup, StartedProcess
from baozi.workload import Workload
from side_by_side import journal_analysis
from side_by_side.celery_processes import start_producer, start_worker
from side_by_side.multiprocessing_group import ProcessFailed, Role
from side_by_side.observed_run import ObservedProcess, OnTick

#: Seconds between two ticks, as in a MultiprocessingGroup; between two checks whether all is eaten or whether
#: the workers are ready.
_TICK, _CHECK_EVERY = 0.02, 0.1
#: Seconds for the workers to be ready, on a slow machine.
_READY_TIMEOUT = 60
#: Seconds that a stopped worker may go on working. When it is stopped, all is eaten or the run has failed.
_SHUTDOWN_TIMEOUT = 1

_ROLES = {"worker": Role.CONSUMER, "producer": Role.PRODUCER}
#: Runs a program without some of its settings.
_REMOVING = ("side_by_side.removed_settings",)
_virtual_hosts = count()


@dataclass
class CeleryRun:
    """A run on Celery as faults and the resource meter see it: the group's processes and the broker."""

    workload: Workload
    folder: Path
    group: ProcessGroup
    broker: TemporaryBroker
    store: tuple[psutil.Process, ...]
    pools: dict[int, tuple[psutil.Process, ...]]

    def processes(self) -> list[ObservedProcess]:
        """Return each worker with its pool, each producer, and the broker."""
        found = [
            ObservedProcess(_ROLES[it.role], it.name, self._tree(it))
            for it in self.group.processes
            if _alive(it)
        ]
        return [*found, ObservedProcess(Role.STORE, "RabbitMQ", self.store)]

    def _tree(self, started: StartedProcess) -> tuple[psutil.Process, ...]:
        if started.role == "producer":
            return (started.process,)
        if started.process.pid not in self.pools:  # finding the children is too slow to do it at every tick
            self.pools[started.process.pid] = (started.process, *started.process.children(recursive=True))
        return self.pools[started.process.pid]

    def revive_store(self) -> None:
        """Start the broker again, on its data and at its address."""
        self.broker.revive()
        self.store = tuple(self.broker.processes())


def run_celery(
    broker: TemporaryBroker,
    workload: Workload,
    folder: Path,
    on_tick: OnTick,
    *,
    tray: int = 1,
    clean_stop: bool = False,
    without: str | None = None,
) -> None:
    """Do ``workload`` on a new virtual host, with journals, ledger and logs below ``folder``.

    The run starts when the workers are ready. It ends when the producers have ended and all accepted baozi
    are eaten.

    Args:
        broker: the broker.
        workload: what to do. Its tray is that of the workers; a producer puts single baozi.
        folder: the folder of this run.
        on_tick: called about fifty times a second.
        tray: baozi that a worker takes at once, if the workload does not ask for more.
        clean_stop: stop the workers by a signal instead of killing them, which takes two seconds.
        without: the setting that is removed (:mod:`side_by_side.removed_settings`).

    Raises:
        DeadlinePassed: the run did not end by the deadline.
        ProcessFailed: a process ended with an error; the message has its last log line.
        BrokerAway: the broker does not answer.
    """
    with ExitStack() as stack:
        url = stack.enter_context(broker.virtual_host(f"run-{next(_virtual_hosts)}"))
        output = stack.enter_context(Path(os.devnull).open("w"))
        group = stack.enter_context(ProcessGroup(folder / "logs", output))
        environment = environment_of(url, workload, folder, max(tray, workload.tray))
        before = (*_REMOVING, without, "--") if without else ()
        for name in workload.consumers:
            start_worker(group, name, environment, before=before)
        _wait_until_ready(group, url, len(workload.consumers))
        ends_at = time.monotonic() + workload.deadline
        for name in workload.producers:
            start_producer(group, name, workload, environment, before=before)
        run = CeleryRun(workload, folder, group, broker, tuple(broker.processes()), {})
        _wait_until_settled(run, ends_at, on_tick)
        if not clean_stop:
            for started in group.processes:
                if _alive(started):
                    started.process.kill()


def environment_of(url: str, workload: Workload, folder: Path, tray: int) -> dict[str, str]:
    """Return the variables of the processes of a run whose files are below ``folder``."""
    chosen = {
        "BAOZI_BROKER_URL": url,
        "BAOZI_HOME": str(folder / "home"),
        "BAOZI_LEDGER_URL": _ledger_url(folder).render_as_string(),
        "BAOZI_JOURNAL": str(folder),
        "BAOZI_EAT_SECONDS": str(workload.eat_seconds),
        "BAOZI_TRAY": str(tray),
        "BAOZI_SOFT_SHUTDOWN_TIMEOUT": str(_SHUTDOWN_TIMEOUT),
    }
    return chosen | ({"BAOZI_CAPACITY": str(workload.capacity)} if workload.capacity else {})


def _wait_until_ready(group: ProcessGroup, url: str, consumers: int) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT
    while consumer_count(url) < consumers:
        _check_that_none_failed(group)
        if time.monotonic() > deadline:
            raise ProcessFailed(
                "The workers were not ready within {ready_timeout} s.", ready_timeout=_READY_TIMEOUT
            )
        time.sleep(_CHECK_EVERY)


def _wait_until_settled(run: CeleryRun, ends_at: float, on_tick: OnTick) -> None:
    check_at = 0.0
    while True:
        on_tick(run)
        _check_that_none_failed(run.group)
        now = time.monotonic()
        if now >= check_at:
            if settled(run):
                return
            # Reading long journals takes a while. The run must have most of the machine's time.
            check_at = now + max(_CHECK_EVERY, 10 * (time.monotonic() - now))
        if now >= ends_at:
            if unwritten := _unwritten(run):
                raise ProcessFailed(
                    "{unwritten} baozi are in the ledger and in no journal, so the counts are wrong: the"
                    " journals could not be written.",
                    unwritten=len(unwritten),
                )
            raise DeadlinePassed("Not all was eaten within {deadline:g} s.", deadline=run.workload.deadline)
        time.sleep(_TICK)


def settled(run: CeleryRun) -> bool:
    """Return whether no producer runs, and all that was accepted is eaten."""
    if any(started.role == "producer" and _alive(started) for started in run.group.processes):
        return False
    return not _lost(run) or (_write_missing_lines(run) and not _lost(run))


def _lost(run: CeleryRun) -> int:
    lines = journal_analysis.read_lines(run.folder)
    return journal_analysis.count(line.entry for line in lines).lost


def _write_missing_lines(run: CeleryRun) -> bool:
    """Write the journal line of each baozi whose worker was killed between its commit and that line.

    Such a baozi is redelivered, found in the ledger and not eaten again, so that no worker would ever write
    its line. A baozi that was delivered once is not counted: its worker may be about to write the line.

    Returns:
        Whether a line was missing.
    """
    unwritten = [row for row in _unwritten(run) if row.deliveries > 1]
    for row in unwritten:
        path = run.folder / "ledger" / f"{row.consumer}.journal"
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as journal:
            journal.write(f"{Entry(row.eaten_at, Event.EATEN, row.baozi_id)}\n")
    return bool(unwritten)


def _unwritten(run: CeleryRun) -> list[Row[str, str, float, int]]:
    """Return the ledger's rows that are in no journal."""
    written = {
        line.entry.baozi_id
        for line in journal_analysis.read_lines(run.folder)
        if line.entry.event is Event.EATEN
    }
    ledger = Ledger(_ledger_url(run.folder))
    try:
        with ledger.reading() as connection:
            rows = connection.execute(
                select(eaten.c.baozi_id, eaten.c.consumer, eaten.c.eaten_at, eaten.c.deliveries)
            ).all()
    finally:
        ledger.close()
    return [row for row in rows if row.baozi_id not in written]


def _ledger_url(folder: Path) -> URL:
    return file_url(folder / "ledger.sqlite3")


def _check_that_none_failed(group: ProcessGroup) -> None:
    for started in group.processes:
        # A negative exit code is the number of a signal: the process was killed. The run's counts judge that.
        if (started.process.poll() or 0) > 0:
            raise ProcessFailed(
                "The {role} {name} failed: {line}",
                role=started.role,
                name=started.name,
                line=started.last_log_line(),
            )


def _alive(started: StartedProcess) -> bool:
    return started.process.poll() is None
