"""Does the runs of the lesson, and records them."""

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from baozi.broker.temporary import TemporaryBroker, temporary_broker
from baozi.errors import BaoziError, DeadlinePassed, ExitCode
from side_by_side import journal_analysis
from side_by_side.comparison_results import Verdict
from side_by_side.injector import Injector
from side_by_side.journal_analysis import JournalLine
from side_by_side.lesson.recorded import RecordedKill, RecordedLesson, RecordedRun, RecordedWork, of_items
from side_by_side.lesson.scenarios import Scene
from side_by_side.local_transport import start_fork_server
from side_by_side.multiprocessing_group import ProcessFailed, Role
from side_by_side.observed_run import ObservedProcess, ObservedRun
from side_by_side.results import this_machine
from side_by_side.transport_run import run_transport

#: How many times a run is tried if it ends before the moment for its fault, or with another verdict.
_TRIES = 5
#: How many baozi must be eaten before the fault, so that a reader has seen what happens without one.
_EATEN_FIRST = 3
#: Seconds without an event after which a run is wedged. On a busy machine a new process may need seconds.
_LOCAL_PATIENCE, _BROKER_PATIENCE = 6.0, 45.0
#: Seconds of silence after which a run without a setting has ended: its workers run on, and wait for nothing.
#: A worker that waits for the broker tries again after two seconds at most.
_SILENCE = 8.0


class NotAsKnown(BaoziError):
    """A run did not end as it is known to. The machine may be too busy: record again."""

    exit_code = ExitCode.LOSS


class _NothingLeft(Exception):
    """All producers have ended, and nothing happens any more."""


def record(scenes: Iterable[Scene], on_scene: Callable[[Scene], None]) -> RecordedLesson:
    """Do each run and return the recording.

    Args:
        scenes: the runs.
        on_scene: called before each run.

    Raises:
        NoBroker, BrokerError: a run needs a broker, and none can be started, or it fails.
        NotAsKnown: a run did not have its known verdict in any try.
    """
    planned = list(scenes)
    runs = []
    with tempfile.TemporaryDirectory(prefix="baozi-") as name, ExitStack() as stack:
        home, broker = Path(name), None
        start_fork_server(home / "stderr.log")
        if any(not one.transport.is_local for one in planned):
            broker = stack.enter_context(temporary_broker("private"))
        for order, scene in enumerate(planned):
            on_scene(scene)
            runs.append(_recorded(scene, home / str(order), broker))
        machine = this_machine(broker.record.version if broker else None)
    return RecordedLesson(made_at=time.time(), machine=machine, runs=runs)


def _recorded(scene: Scene, home: Path, broker: TemporaryBroker | None) -> RecordedRun:
    for number in range(_TRIES):
        run = record_run(scene, home / str(number), broker)
        if _shows(run, scene):
            return run
    raise NotAsKnown(
        "{run}: the run was {verdict} instead of {expected}, or the fault came too late, in {tries} tries.",
        run=scene.title,
        verdict=run.verdict,
        expected=scene.expected,
        tries=_TRIES,
    )


def _shows(run: RecordedRun, scene: Scene) -> bool:
    """Return whether the run has the verdict that is known, and shows where it comes from."""
    if scene.failure.is_killing and (run.kill is None or run.kill.at >= run.lines[-1][0]):
        return False  # there was nothing left to go wrong
    misses_some = scene.expected in {Verdict.LOST, Verdict.WEDGED}
    return run.verdict is scene.expected and (run.counts.lost > 0) == misses_some


class _Watch:
    """Looks at a run at each tick: injects the fault, and sees when nothing is left to happen."""

    def __init__(self, scene: Scene) -> None:
        patience = _LOCAL_PATIENCE if scene.transport.is_local else _BROKER_PATIENCE
        self.injector = Injector(scene.failure.fault, patience) if scene.failure.fault else None
        self.killed: ObservedProcess | None = None
        self._begun = False
        self._ends_by_silence = scene.without is not None
        self._lines, self._grew_at = 0, time.monotonic()

    def tick(self, run: ObservedRun) -> None:
        if self.injector is not None and self._has_begun(run):
            before = None if self.injector.effect else run.processes()
            self.injector.tick(run)
            if before is not None and self.injector.effect is not None:
                target = self.injector.effect.target
                self.killed = next(one for one in before if target == f"the {one.role} {one.name}")
        if self._ends_by_silence:
            self._end_in_silence(run)

    def _has_begun(self, run: ObservedRun) -> bool:
        if not self._begun:
            lines = journal_analysis.read_lines(run.folder)
            self._begun = journal_analysis.count(line.entry for line in lines).eaten >= _EATEN_FIRST
        return self._begun

    def _end_in_silence(self, run: ObservedRun) -> None:
        lines = len(journal_analysis.read_lines(run.folder))
        if lines > self._lines:
            self._lines, self._grew_at = lines, time.monotonic()
        producing = any(one.role is Role.PRODUCER for one in run.processes())
        if lines and not producing and time.monotonic() - self._grew_at > _SILENCE:
            raise _NothingLeft


def record_run(scene: Scene, folder: Path, broker: TemporaryBroker | None) -> RecordedRun:
    """Do one run, with its journals below ``folder``, and return its recording, whatever its verdict is."""
    watch, error = _Watch(scene), None
    try:
        run_transport(scene.transport, broker, scene.workload, folder, watch.tick, scene.without)
    except _NothingLeft:
        pass
    except (DeadlinePassed, ProcessFailed) as its_error:
        error = its_error
    ended_at = time.time()
    lines = journal_analysis.read_lines(folder)
    counts = journal_analysis.count(line.entry for line in lines)
    # A run whose process failed did not end by itself, unless its accepted baozi are lost: then it is "lost".
    ended = error is None or (isinstance(error, ProcessFailed) and counts.lost > 0)
    start = lines[0].entry.at
    work = scene.workload
    return RecordedRun(
        failure=scene.failure.name,
        transport=scene.transport.name,
        without=scene.without,
        work=RecordedWork(
            producers=list(work.producers),
            consumers=list(work.consumers),
            items=work.per_producer // work.tray,
            tray=work.tray,
            capacity=work.capacity,
        ),
        lines=list(of_items(lines, work.tray)),
        kill=_kill(watch, start),
        seconds=round(_end(lines, ended_at, ended) - start, 4),
        counts=counts,
        verdict=journal_analysis.verdict(counts, ended),
    )


def _end(lines: list[JournalLine], ended_at: float, ended: bool) -> float:
    return lines[-1].entry.at if ended else ended_at


def _kill(watch: _Watch, start: float) -> RecordedKill | None:
    injector, killed = watch.injector, watch.killed
    if injector is None or injector.effect is None or killed is None:
        return None
    back = injector.repaired_at if killed.role is Role.STORE and killed.name == "RabbitMQ" else None
    return RecordedKill(
        at=round(injector.effect.at - start, 4),
        role=killed.role.value,
        name=killed.name,
        back_at=None if back is None else round(back - start, 4),
    )
