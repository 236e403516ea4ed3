"""``baozi compare``: plans the runs, does one after the other, injects faults, and returns results."""

import random
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from baozi.broker.temporary import TemporaryBroker, temporary_broker
from baozi.errors import BaoziError, DeadlinePassed, ExitCode
from baozi.journal import Event
from baozi.language import Sentence, listed
from baozi.workload import Workload, checked_workload
from side_by_side import journal_analysis
from side_by_side.comparison_results import ComparisonResults, NotRun, Run, RunKind, Verdict
from side_by_side.faults.fault import Fault
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.injector import Injector
from side_by_side.local_transport import start_fork_server
from side_by_side.multiprocessing_group import ProcessFailed
from side_by_side.observed_run import ObservedRun, ResourceMeter
from side_by_side.results import this_machine
from side_by_side.transport_run import run_transport
from side_by_side.transports import Transport

#: How many times a run is tried if it always ends before the moment for its fault.
_TRIES = 3
#: Seconds of work at the fixed rate: enough for a 99th percentile, at a hundred a second.
_FIXED_RATE_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of the plan."""

    transport: Transport
    kind: RunKind
    repetition: int
    workload: Workload
    expected: Verdict
    fault: Fault[ObservedRun] | None = None

    @property
    def title(self) -> Sentence:
        """The transport, and the fault or the kind of the run."""
        return listed((self.transport.name, self.fault.name if self.fault else self.kind))


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """What one ``baozi compare`` does."""

    transports: Sequence[Transport]
    workload: Workload
    rate: float
    """Baozi offered per second in the runs at a fixed rate."""
    repeat: int
    """How many times each flat-out run is done; if ``faults`` names some, how many times each of those."""
    seed: int
    """The seed of the runs' order."""
    faults: Sequence[str] | None
    """The names of the only faults; none of them: speed alone. None: speed, and each fault once."""
    deadline: float | None
    """Seconds of each run; None: the default of each kind of run."""

    def runs(self) -> list[PlannedRun]:
        """Return all runs, in an order that the seed chooses.

        Raises:
            UsageError: one of them could not end by its deadline.
        """
        runs = [run for transport in self.transports for run in self._runs_of(transport)]
        random.Random(self.seed).shuffle(runs)
        return runs

    def _runs_of(self, transport: Transport) -> list[PlannedRun]:
        runs = []
        if not self.faults:
            for number in range(self.repeat):
                runs.append(PlannedRun(transport, RunKind.FLAT_OUT, number, self.workload, Verdict.SOUND))
            fixed_rate = self._at_fixed_rate()
            runs.append(PlannedRun(transport, RunKind.FIXED_RATE, 0, fixed_rate, Verdict.SOUND))
        repeat = self.repeat if self.faults else 1
        for fault in COMPARE_FAULTS.values():
            case = fault.cases.get(transport.name)
            if case is None or (self.faults is not None and fault.name not in self.faults):
                continue
            deadline = self.deadline or transport.limits[0]
            for number in range(repeat):
                work = dict(case.workload) | {"deadline": deadline}
                workload = checked_workload(run=f"{fault.name}-{number}", **work)
                runs.append(PlannedRun(transport, RunKind.FAULT, number, workload, case.expected, fault))
        return runs

    def _at_fixed_rate(self) -> Workload:
        producers = len(self.workload.producers)
        changes = {
            "make_seconds": producers / self.rate,
            "tray": 1,  # the time to fill a tray would be part of the latency
            "per_producer": max(5, round(self.rate * _FIXED_RATE_SECONDS / producers)),
        }
        return checked_workload(**self.workload.model_dump() | changes)


class FaultMissed(BaoziError):
    """The run ended before the moment for the fault came. The machine may be too busy: try again."""

    exit_code = ExitCode.LOSS


def compare(
    plan: ComparisonPlan, on_run: Callable[[PlannedRun], None]
) -> Generator[ComparisonResults, None, None]:
    """Do the ``plan`` and yield the results so far: first without a run, then after each run.

    All processes have ended when the generator ends, is closed or raises. So has the broker, a temporary one.

    Args:
        plan: what to do.
        on_run: called before each run.

    Raises:
        NoBroker, BrokerError: the plan needs a broker, and none can be started, or it fails.
        FaultMissed: a run ended three times before the moment for its fault.
    """
    planned = plan.runs()
    with tempfile.TemporaryDirectory(prefix="baozi-") as folder, ExitStack() as stack:
        home, broker = Path(folder), None
        start_fork_server(home / "stderr.log")
        if any(not one.transport.is_local for one in planned):
            broker = stack.enter_context(temporary_broker())
        results = _no_runs(plan, broker)
        skipped = {(it.transport, it.fault) for it in results.not_run}
        yield results
        for order, one in enumerate(planned):
            if one.fault is not None and (one.transport.name, one.fault.name) in skipped:
                continue
            on_run(one)
            run = _run(one, order, home, broker)
            results = results.model_copy(update={"runs": [*results.runs, run]})
            yield results
        yield results.model_copy(update={"finished": True})


def _no_runs(plan: ComparisonPlan, broker: TemporaryBroker | None) -> ComparisonResults:
    return ComparisonResults(
        made_at=time.time(),
        seed=plan.seed,
        finished=False,
        machine=this_machine(broker.record.version if broker else None),
        workload=plan.workload,
        offered_per_second=plan.rate,
        repeat=plan.repeat,
        accepted_means={it.name: it.accepted_means for it in plan.transports},
        runs=[],
        not_run=[
            NotRun(transport=transport.name, fault=fault.name, reason=reason)
            for transport in plan.transports
            for fault in COMPARE_FAULTS.values()
            if plan.faults is None or fault.name in plan.faults
            if (reason := _obstacle(fault, transport, broker))
        ],
    )


def _obstacle(fault: Fault[ObservedRun], transport: Transport, broker: TemporaryBroker | None) -> str | None:
    if broker is not None and not transport.is_local and broker.record.kind not in fault.brokers:
        return Sentence("The broker runs in a container, in which this fault cannot be injected.")
    return fault.obstacle(transport.name, None)


def _run(planned: PlannedRun, order: int, home: Path, broker: TemporaryBroker | None) -> Run:
    for number in range(_TRIES):
        folder = home / f"{order}-{number}"
        injector = Injector(planned.fault, planned.transport.limits[1]) if planned.fault else None
        run = _try(planned, order, folder, broker, injector)
        if injector is None or injector.at is not None:
            return run
    raise FaultMissed(
        "{title}: the run ended {tries} times before the moment for the fault came.",
        title=planned.title,
        tries=_TRIES,
    )


def _try(
    planned: PlannedRun,
    order: int,
    folder: Path,
    broker: TemporaryBroker | None,
    injector: Injector | None,
) -> Run:
    meter, error = ResourceMeter(), None

    def on_tick(run: ObservedRun) -> None:
        meter.measure(run)
        if injector is not None:
            injector.tick(run)

    transport, began = planned.transport, time.time()
    try:
        run_transport(transport, broker, planned.workload, folder, on_tick)
    except (DeadlinePassed, ProcessFailed) as its_error:
        error = its_error
    return _measured(planned, order, folder, began, meter, injector.at if injector else None, error)


def _measured(
    planned: PlannedRun,
    order: int,
    folder: Path,
    began: float,
    meter: ResourceMeter,
    fault_at: float | None,
    error: BaoziError | None,
) -> Run:
    lines = journal_analysis.read_lines(folder)
    counts = journal_analysis.count(line.entry for line in lines)
    start = lines[0].entry.at if lines else began
    seconds = (
        time.time() if isinstance(error, DeadlinePassed) else lines[-1].entry.at if lines else start
    ) - start
    # A run whose process failed did not end by itself, unless its accepted baozi are lost: then it is "lost".
    ended = error is None or (isinstance(error, ProcessFailed) and counts.lost > 0)
    return Run(
        transport=planned.transport.name,
        measure=planned.kind,
        fault=planned.fault.name if planned.fault else None,
        repetition=planned.repetition,
        order=order,
        workload=planned.workload,
        counts=counts,
        verdict=journal_analysis.verdict(counts, ended),
        expected=planned.expected,
        seconds=seconds,
        accepted_per_second=journal_analysis.per_second(lines, Event.ACCEPTED),
        eaten_per_second=journal_analysis.per_second(lines, Event.EATEN),
        latency=journal_analysis.latency(lines) if planned.kind is RunKind.FIXED_RATE else None,
        usage=meter.usage(counts.eaten),
        fault_at=None if fault_at is None else fault_at - start,
        timeline=journal_analysis.timeline(lines, seconds),
        eaten_by=journal_analysis.eaten_by(lines),
        error=None if error is None else str(error),
        missed=journal_analysis.missed(lines),
    )
