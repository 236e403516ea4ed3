"""The faults of any transport: whom to kill, and the moment when it is certain what the victim is doing."""

import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

import psutil

from baozi.errors import BaoziError, ExitCode
from baozi.journal import Event
from local_mp.guarded import DeadlinePassed
from side_by_side.scene import Player, Scene
from side_by_side.stage import Role
from side_by_side.sums import Line, count, read_lines

#: Seconds after its last line in which a consumer is seen to be idle: it has had the time to go back and
#: wait, and the next baozi is not there yet (their workload makes one each 0.25 s).
_IDLE_FROM, _IDLE_TO = 0.03, 0.1
#: Seconds for which a process that looks for work now and then is watched; local_mp's file is looked at a
#: hundred times a second.
_WATCHED = 0.05
#: Seconds between seeing a process fall asleep and killing it: well below its sleep.
_PROMPT = 0.004
#: How many must be accepted and not eaten for a store to have something to lose.
_BACKLOG = 5


class Fault(StrEnum):
    """What can be injected."""

    KILL_BUSY_CONSUMER = "kill-busy-consumer"
    KILL_IDLE_CONSUMER = "kill-idle-consumer"
    KILL_PRODUCER = "kill-producer"
    KILL_STORE = "kill-store"


class FaultMissed(BaoziError):
    """The run ended before the moment for the fault came; the machine may be too busy, so try again."""

    exit_code = ExitCode.LOSS


class Injector:
    """Waits for the moment, kills, and then sees that the run goes on."""

    def __init__(self, fault: Fault, patience: float) -> None:
        """Take the ``fault`` and how many seconds without any event, after it, make a run wedged."""
        self.at: float | None = None
        """When it was injected, in UTC epoch seconds."""
        self._fault = fault
        self._patience = patience
        self._size = 0
        self._grew_at = 0.0

    def look(self, scene: Scene) -> None:
        """Inject the fault if this is the moment; later, give up a run in which nothing happens any more.

        Raises:
            DeadlinePassed: nothing has happened for ``patience`` seconds since.
            BaoziError: the killed store does not start again.
        """
        if self.at is None:
            self._inject(scene)
            self._grew_at = time.monotonic()
            return
        size = sum(path.stat().st_size for path in scene.folder.rglob("*.journal"))
        if size != self._size:
            self._size, self._grew_at = size, time.monotonic()
        elif time.monotonic() - self._grew_at > self._patience:
            raise DeadlinePassed(f"Nothing has happened for {self._patience:g} s: it is wedged.")

    def _inject(self, scene: Scene) -> None:
        lines = read_lines(scene.folder)
        victim = _CHOOSE[self._fault](scene, lines)
        if victim is None:
            return
        if self._fault is Fault.KILL_IDLE_CONSUMER:
            try:
                idle = _asleep(victim.processes[0])
            except psutil.NoSuchProcess:
                return  # its work was done
            if not idle or len(read_lines(scene.folder)) != len(lines):
                return
        for process in victim.processes:
            # Erlang's port mapper keeps no message, and the broker finds it again.
            with suppress(psutil.NoSuchProcess):
                if process.name() != "epmd":
                    process.kill()
        self.at = time.time()
        if self._fault is Fault.KILL_STORE:
            scene.revive_store()


def _busy_consumer(scene: Scene, lines: list[Line]) -> Player | None:
    """One that has started a baozi less than half the time ago that it needs to eat it."""
    latest = {line.name: line.entry for line in lines if line.entry.event in {Event.STARTED, Event.EATEN}}
    for name, entry in latest.items():
        if entry.event is Event.STARTED and time.time() - entry.at < scene.workload.eat_seconds / 2:
            return _player(scene, Role.CONSUMER, name)
    return None


def _idle_consumer(scene: Scene, lines: list[Line]) -> Player | None:
    """The one that has waited longest, when all is eaten, each has eaten, and the next is not made yet.

    Of two at one lock it is the one that waits with the lock in hand: the other has just come back.
    """
    attempted = {line.entry.baozi_id for line in lines if line.entry.event is Event.ATTEMPTED}
    last_eaten = {line.name: line.entry.at for line in lines if line.entry.event is Event.EATEN}
    sums = count(line.entry for line in lines)
    if len(last_eaten) < len(scene.workload.consumers) or sums.eaten < len(attempted):
        return None
    if not _IDLE_FROM <= time.time() - max(last_eaten.values()) <= _IDLE_TO:
        return None
    return _player(scene, Role.CONSUMER, min(last_eaten, key=lambda name: last_eaten[name]))


def _producer(scene: Scene, lines: list[Line]) -> Player | None:
    """One whose put has just returned: it makes its next, or, where making takes no time, has put half."""
    latest = {
        line.name: line.entry for line in lines if line.entry.event in {Event.ATTEMPTED, Event.ACCEPTED}
    }
    eaten = any(line.entry.event is Event.EATEN for line in lines)
    for name, entry in latest.items():
        if not eaten or entry.event is not Event.ACCEPTED:
            continue
        number, all_of_them = int(entry.baozi_id.rpartition("/")[2]) + 1, scene.workload.per_producer
        making = scene.workload.make_seconds and time.time() - entry.at < scene.workload.make_seconds / 2
        in_a_burst = not scene.workload.make_seconds and number >= all_of_them / 2
        if in_a_burst or (making and 2 <= number < all_of_them):
            return _player(scene, Role.PRODUCER, name)
    return None


def _store(scene: Scene, lines: list[Line]) -> Player | None:
    """The store, when it has a backlog, and somebody is eating."""
    sums = count(line.entry for line in lines)
    if not sums.eaten or sums.accepted - sums.eaten < _BACKLOG:
        return None
    return next((player for player in scene.players() if player.role is Role.STORE), None)


_CHOOSE: dict[Fault, Callable[[Scene, list[Line]], Player | None]] = {
    Fault.KILL_BUSY_CONSUMER: _busy_consumer,
    Fault.KILL_IDLE_CONSUMER: _idle_consumer,
    Fault.KILL_PRODUCER: _producer,
    Fault.KILL_STORE: _store,
}


def _player(scene: Scene, role: Role, name: str) -> Player | None:
    return next((it for it in scene.players() if (it.role, it.name) == (role, name)), None)


def _asleep(process: psutil.Process) -> bool:
    """Whether it sleeps, and will for a moment: it has just gone to sleep, or was not awake all the time.

    The system counts how often a process gives up the processor. So who wakes a hundred times a second, to
    look at a file under its lock, is not killed while it looks.
    """
    began = seen_at = time.monotonic()
    naps = process.num_ctx_switches().voluntary
    while time.monotonic() - began < _WATCHED:
        before, seen_at = seen_at, time.monotonic()
        if process.num_ctx_switches().voluntary != naps:
            return time.monotonic() - before < _PROMPT and process.status() == psutil.STATUS_SLEEPING
    return process.status() == psutil.STATUS_SLEEPING
