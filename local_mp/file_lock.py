"""Row 1, ``file-lock``: producer and consumer with a file, and a mutex around it.

The course: processes share no memory, but they share files. A file works as the shared place, as long as
one at a time uses it; it is slow, and you write the lock yourself.

It shows everything that a queue spares you. The baozi stand in a file, a line a tray; a second file says
how many wait and where the next one begins. Who puts or takes does so under the lock. Nothing tells a
process that the file has changed, so who finds it full or empty looks again a little later.

It cannot wait without asking again and again, and it cannot bear a death: a ``multiprocessing.Lock`` whose
holder is killed is never released. A file does outlive its processes, but who took a baozi and died has
eaten it for all anyone knows. It does not cross machines, for this lock does not.
"""

import json
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Lock
from pathlib import Path

from baozi.journal import Event, Journal
from baozi.model import Baozi
from baozi.workload import Workload
from local_mp.stage import Role, Stage, note

#: Seconds between two looks at a file that is full or empty; a file offers no better way to wait.
#: More often costs more of the processor, less often keeps each baozi waiting longer.
POLL = 0.01

COURSE = Workload()


def producer(shelf: "Shelf", name: str, workload: Workload, journal: Journal) -> None:
    """Make baozi and put them, a tray at a time (the course's tray holds one)."""
    for tray in workload.trays(name):
        note(journal, Event.ATTEMPTED, tray)
        shelf.put(tray)
        note(journal, Event.ACCEPTED, tray)
        for baozi in tray:
            print(baozi.made_line)


def consumer(shelf: "Shelf", name: str, workload: Workload, journal: Journal) -> None:
    """Get trays and eat what is on them, until ``None`` comes."""
    while (tray := shelf.get()) is not None:
        note(journal, Event.STARTED, tray)
        for baozi in tray:
            time.sleep(workload.eat_seconds)
            journal.write(Event.EATEN, baozi.id)
            print(baozi.eaten_line(name))


@dataclass(frozen=True)
class Shelf:
    """The shared place: a file of trays, a file that says how many wait, the lock around both."""

    trays: Path
    state: Path
    lock: Lock
    capacity: int | None

    def put(self, tray: list[Baozi] | None) -> None:
        """Append a tray; look again while the shelf is full."""
        line = json.dumps(tray and [baozi.model_dump() for baozi in tray])
        while not self._append(line + "\n"):
            time.sleep(POLL)

    def _append(self, line: str) -> bool:
        with self.lock:
            state = json.loads(self.state.read_text())
            if self.capacity is not None and state["waiting"] >= self.capacity:
                return False
            with self.trays.open("a") as trays:
                trays.write(line)
            self.state.write_text(json.dumps(state | {"waiting": state["waiting"] + 1}))
            return True

    def get(self) -> list[Baozi] | None:
        """Take the oldest tray; look again while the shelf is empty."""
        while (line := self._take()) is None:
            time.sleep(POLL)
        tray = json.loads(line)
        return tray and [Baozi.parse(baozi) for baozi in tray]

    def _take(self) -> str | None:
        with self.lock:
            state = json.loads(self.state.read_text())
            if not state["waiting"]:
                return None
            with self.trays.open() as trays:
                trays.seek(state["offset"])
                line = trays.readline()
                state = {"waiting": state["waiting"] - 1, "offset": trays.tell()}
            self.state.write_text(json.dumps(state))
            return line


def close(shelf: Shelf, _name: str, workload: Workload, _journal: Journal) -> None:
    """Put one ``None`` for each consumer."""
    for _ in workload.consumers:
        shelf.put(None)


def run(stage: Stage) -> None:
    """Start all, wait for the producers, then have the consumers stopped.

    Raises:
        DeadlinePassed, ActorFailed: as Stage.wait says.
    """
    stage.folder.mkdir(parents=True, exist_ok=True)
    shelf = Shelf(stage.folder / "trays", stage.folder / "state", stage.mp.Lock(), stage.workload.capacity)
    shelf.trays.write_text("")
    shelf.state.write_text(json.dumps({"waiting": 0, "offset": 0}))
    producers = [stage.start(Role.PRODUCER, producer, shelf, name) for name in stage.workload.producers]
    consumers = [stage.start(Role.CONSUMER, consumer, shelf, name) for name in stage.workload.consumers]
    stage.wait(producers)
    # A process of its own puts the None: a put can wait for ever, and the parent must be free to end it.
    stage.start(Role.CLOSER, close, shelf, "close")
    stage.wait(consumers)
    stage.say("主进程")
