"""Runs a workload on Celery and RabbitMQ: the very worker and producer of the main job."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil
from sqlalchemy import URL, Row, select

from baozi.journal import Entry, Event
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten
from baozi.ledger_url import file_url
from baozi.workload import Workload
from local_mp.guarded import DeadlinePassed
from side_by_side import sums
from side_by_side.actors import start_producer, start_worker
from side_by_side.crew import Crew, Member
from side_by_side.own_broker import OwnBroker, consumer_count
from side_by_side.scene import Player, Tick
from side_by_side.stage import ActorFailed, Role

#: Seconds between two ticks, as on local_mp's stage; between two looks at whether all is eaten; the same for
#: whether workers are ready.
_TICK, _LOOK_EVERY = 0.02, 0.1
#: Seconds for the workers to be ready, on a slow machine.
_READY_TIMEOUT = 60
#: Seconds that a worker may go on when it is stopped; by then all is eaten, or given up.
_SHUTDOWN_TIMEOUT = 1

_ROLES = {"worker": Role.CONSUMER, "producer": Role.PRODUCER}
_virtual_hosts = count()


@dataclass
class CeleryScene:
    """A crew and a broker, as a fault and a meter see them."""

    workload: Workload
    folder: Path
    crew: Crew
    broker: OwnBroker
    store: tuple[psutil.Process, ...]
    pools: dict[int, tuple[psutil.Process, ...]]

    def players(self) -> list[Player]:
        """Each worker with its pool, each producer, the broker."""
        players = [Player(_ROLES[it.role], it.name, self._tree(it)) for it in self.crew.members if _alive(it)]
        return [*players, Player(Role.STORE, "RabbitMQ", self.store)]

    def _tree(self, member: Member) -> tuple[psutil.Process, ...]:
        if member.role == "producer":
            return (member.process,)
        if member.process.pid not in self.pools:  # a look at all processes, which is not for every tick
            self.pools[member.process.pid] = (member.process, *member.process.children(recursive=True))
        return self.pools[member.process.pid]

    def revive_store(self) -> None:
        """Start the broker again, on its data and at its address."""
        self.broker.revive()
        self.store = tuple(self.broker.processes())


def run_celery(
    broker: OwnBroker,
    workload: Workload,
    folder: Path,
    tick: Tick,
    *,
    tray: int = 1,
    clean_stop: bool = False,
) -> None:
    """Do ``workload`` on a virtual host of its own, with journals, ledger and logs below ``folder``.

    It begins when the workers are ready and ends when the producers have ended and all accepted is eaten.

    Args:
        broker: where.
        workload: what is to be done; its tray is the workers', a producer puts single baozi.
        folder: this run's own.
        tick: called all the while.
        tray: baozi that a worker takes at once, if the workload does not ask for more.
        clean_stop: ask the workers to stop, which takes two seconds, where they have no more work to do.

    Raises:
        DeadlinePassed: that did not come by the deadline.
        ActorFailed: a process ended with an error; says what its log says last.
        BrokerAway: the broker does not answer.
    """
    with ExitStack() as stack:
        url = stack.enter_context(broker.virtual_host(f"run-{next(_virtual_hosts)}"))
        output = stack.enter_context(Path(os.devnull).open("w"))
        crew = stack.enter_context(Crew(folder / "logs", output))
        environment = _environment(url, workload, folder, max(tray, workload.tray))
        for name in workload.consumers:
            start_worker(crew, name, environment)
        _wait_until_ready(crew, url, len(workload.consumers))
        ends_at = time.monotonic() + workload.deadline
        for name in workload.producers:
            start_producer(crew, name, workload, environment)
        scene = CeleryScene(workload, folder, crew, broker, tuple(broker.processes()), {})
        _wait_until_settled(scene, ends_at, tick)
        if not clean_stop:
            for member in crew.members:
                if _alive(member):
                    member.process.kill()


def _environment(url: str, workload: Workload, folder: Path, tray: int) -> dict[str, str]:
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


def _wait_until_ready(crew: Crew, url: str, consumers: int) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT
    while consumer_count(url) < consumers:
        _see_that_none_failed(crew)
        if time.monotonic() > deadline:
            raise ActorFailed(f"The workers were not ready within {_READY_TIMEOUT} s.")
        time.sleep(_LOOK_EVERY)


def _wait_until_settled(scene: CeleryScene, ends_at: float, tick: Tick) -> None:
    look_at = 0.0
    while True:
        tick(scene)
        _see_that_none_failed(scene.crew)
        now = time.monotonic()
        if now >= look_at:
            if _settled(scene):
                return
            # Reading long journals takes a while; the run shall have most of the machine.
            look_at = now + max(_LOOK_EVERY, 10 * (time.monotonic() - now))
        if now >= ends_at:
            if unwritten := _unwritten(scene):
                raise ActorFailed(
                    f"{len(unwritten)} baozi are in the ledger and in no journal, so that the sums are wrong:"
                    " the journals could not be written."
                )
            raise DeadlinePassed(f"Not all was eaten within {scene.workload.deadline:g} s.")
        time.sleep(_TICK)


def _settled(scene: CeleryScene) -> bool:
    if any(member.role == "producer" and _alive(member) for member in scene.crew.members):
        return False
    return not _lost(scene) or (_written_by_the_ledger_alone(scene) and not _lost(scene))


def _lost(scene: CeleryScene) -> int:
    return sums.count(line.entry for line in sums.read_lines(scene.folder)).lost


def _written_by_the_ledger_alone(scene: CeleryScene) -> bool:
    """Write the journal's line for who was killed between the ledger's commit and that line; True if any.

    Delivered again, such a baozi is found in the ledger, and eaten no second time, so that no journal would
    ever tell of it. One that was delivered once may be between the two at this very moment.
    """
    unwritten = [row for row in _unwritten(scene) if row.deliveries > 1]
    for row in unwritten:
        path = scene.folder / "ledger" / f"{row.consumer}.journal"
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as journal:
            journal.write(f"{Entry(row.eaten_at, Event.EATEN, row.baozi_id)}\n")
    return bool(unwritten)


def _unwritten(scene: CeleryScene) -> list[Row[str, str, float, int]]:
    """The ledger's rows of which no journal tells."""
    written = {
        line.entry.baozi_id for line in sums.read_lines(scene.folder) if line.entry.event is Event.EATEN
    }
    ledger = Ledger(_ledger_url(scene.folder))
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


def _see_that_none_failed(crew: Crew) -> None:
    for member in crew.members:
        # Below zero is a signal's number: it was killed, which is for the run's sums to judge.
        if (member.process.poll() or 0) > 0:
            raise ActorFailed(f"The {member.role} {member.name} failed: {member.last_words()}")


def _alive(member: Member) -> bool:
    return member.process.poll() is None
