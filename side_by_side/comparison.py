"""Runs a plan, one run after the other, and keeps what came of each."""

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

from baozi.errors import BaoziError
from baozi.journal import Event
from local_mp.guarded import DeadlinePassed
from side_by_side import sums
from side_by_side.celery_transport import run_celery
from side_by_side.faults.moments import Fault, FaultMissed, Injector
from side_by_side.local_transport import run_local, start_fork_server
from side_by_side.machine import this_machine
from side_by_side.own_broker import OwnBroker, own_broker
from side_by_side.plan import Job, Plan
from side_by_side.queue_transport import run_queue
from side_by_side.results import Measure, Results, Run
from side_by_side.scene import Scene
from side_by_side.stage import ActorFailed
from side_by_side.transports import Program
from side_by_side.usage import Meter

#: How often a run is done again whose moment for the fault never came.
_TRIES = 3


def compare(plan: Plan, on_job: Callable[[Job], None]) -> Generator[Results, None, None]:
    """Run the ``plan`` and yield the results as they stand: first with no run, then after each.

    All processes are gone when it ends, is closed, or raises; a broker, too, which is one of its own.

    Args:
        plan: what to run.
        on_job: told of each run before it.

    Raises:
        NoBroker, BrokerError: celery is planned, and no broker can be started, or it fails.
        FaultMissed: three times the moment for a fault did not come.
    """
    jobs = plan.jobs()
    with tempfile.TemporaryDirectory(prefix="baozi-") as folder, ExitStack() as stack:
        home, broker = Path(folder), None
        start_fork_server(home / "stderr.log")
        if any(not job.transport.is_local for job in jobs):
            broker = stack.enter_context(own_broker())
        results = _no_runs(plan, broker)
        yield results
        for order, job in enumerate(jobs):
            if _cannot(job, broker):
                continue
            on_job(job)
            run = _run(job, order, home, broker)
            results = results.model_copy(update={"runs": [*results.runs, run]})
            yield results
        yield results.model_copy(update={"finished": True})


def _no_runs(plan: Plan, broker: OwnBroker | None) -> Results:
    return Results(
        made_at=time.time(),
        seed=plan.seed,
        finished=False,
        machine=this_machine(broker.record.version if broker else None),
        workload=plan.workload,
        offered_per_second=plan.rate,
        repeat=plan.repeat,
        accepted_means={it.name: it.accepted_means for it in plan.transports},
        runs=[],
    )


def _cannot(job: Job, broker: OwnBroker | None) -> bool:
    """Whether the fault cannot be injected here: a container's broker does not come back at its address."""
    return (
        broker is not None
        and not job.transport.is_local
        and job.fault is Fault.KILL_STORE
        and not broker.can_be_killed
    )


def _run(job: Job, order: int, home: Path, broker: OwnBroker | None) -> Run:
    for number in range(_TRIES):
        folder = home / f"{order}-{number}"
        injector = Injector(job.fault, job.transport.limits[1]) if job.fault else None
        run = _try(job, order, folder, broker, injector)
        if injector is None or injector.at is not None:
            return run
    raise FaultMissed(f"{job.title}: the run ended {_TRIES} times before the moment for the fault came.")


def _try(job: Job, order: int, folder: Path, broker: OwnBroker | None, injector: Injector | None) -> Run:
    meter, error = Meter(), None

    def tick(scene: Scene) -> None:
        meter.look(scene)
        if injector is not None:
            injector.look(scene)

    began = time.time()
    try:
        if broker is None or job.transport.is_local:
            run_local(job.transport.name, job.workload, folder, tick)
        elif job.transport.program is Program.QUEUE:
            run_queue(broker, job.workload, folder, tick)
        else:
            run_celery(broker, job.workload, folder, tick, tray=job.transport.tray)
    except (DeadlinePassed, ActorFailed) as its_error:
        error = its_error
    return _summed_up(job, order, folder, began, meter, injector.at if injector else None, error)


def _summed_up(
    job: Job,
    order: int,
    folder: Path,
    began: float,
    meter: Meter,
    fault_at: float | None,
    error: BaoziError | None,
) -> Run:
    lines = sums.read_lines(folder)
    counts = sums.count(line.entry for line in lines)
    start = lines[0].entry.at if lines else began
    seconds = (
        time.time() if isinstance(error, DeadlinePassed) else lines[-1].entry.at if lines else start
    ) - start
    # Who failed did not do its work; if nothing that was accepted is lost, still not all of it is done.
    ended = error is None or (isinstance(error, ActorFailed) and counts.lost > 0)
    return Run(
        transport=job.transport.name,
        measure=job.measure,
        fault=job.fault,
        repetition=job.repetition,
        order=order,
        workload=job.workload,
        counts=counts,
        verdict=sums.verdict(counts, ended),
        expected=job.expected,
        seconds=seconds,
        accepted_per_second=sums.per_second(lines, Event.ACCEPTED),
        eaten_per_second=sums.per_second(lines, Event.EATEN),
        latency=sums.latency(lines) if job.measure is Measure.FIXED_RATE else None,
        usage=meter.usage(counts.eaten),
        fault_at=None if fault_at is None else fault_at - start,
        timeline=sums.timeline(lines, seconds),
        eaten_by=sums.eaten_by(lines),
        error=None if error is None else str(error),
        missed=sums.missed(lines),
    )
