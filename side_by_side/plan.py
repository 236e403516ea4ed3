"""What a comparison runs, in which order."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from baozi.workload import Workload, checked_workload
from side_by_side.faults.moments import Fault
from side_by_side.results import Measure, Verdict
from side_by_side.transports import Transport

#: Seconds of work at the fixed rate: enough for a 99th percentile, at a hundred a second.
_FIXED_RATE_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be."""

    transport: Transport
    measure: Measure
    repetition: int
    workload: Workload
    expected: Verdict
    fault: Fault | None = None

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"{self.transport.name}, {self.fault or self.measure}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A comparison to be. ``faults`` None: each fault once, and speed; else these, ``repeat`` times."""

    transports: Sequence[Transport]
    workload: Workload
    rate: float
    """Baozi offered per second in the runs at a fixed rate."""
    repeat: int
    seed: int
    faults: Sequence[Fault] | None
    deadline: float | None
    """Seconds of each run; None: what each kind of run is given."""

    def jobs(self) -> list[Job]:
        """Return all runs, shuffled by the seed.

        Raises:
            UsageError: one of them could not end by its deadline.
        """
        jobs = [job for transport in self.transports for job in self._jobs_of(transport)]
        random.Random(self.seed).shuffle(jobs)
        return jobs

    def _jobs_of(self, transport: Transport) -> list[Job]:
        jobs = []
        if not self.faults:
            for number in range(self.repeat):
                jobs.append(Job(transport, Measure.FLAT_OUT, number, self.workload, Verdict.SOUND))
            jobs.append(Job(transport, Measure.FIXED_RATE, 0, self._at_fixed_rate(), Verdict.SOUND))
        repeat = self.repeat if self.faults else 1
        for fault, case in transport.cases.items():
            if self.faults is not None and fault not in self.faults:
                continue
            deadline = self.deadline or transport.limits[0]
            for number in range(repeat):
                work = self._named(f"{fault}-{number}", dict(case.work) | {"deadline": deadline})
                jobs.append(Job(transport, Measure.FAULT, number, work, case.expected, fault))
        return jobs

    def _at_fixed_rate(self) -> Workload:
        makers = len(self.workload.producers)
        pace = {
            "make_seconds": makers / self.rate,
            "tray": 1,  # who waits for a tray to fill would be what is measured
            "per_producer": max(5, round(self.rate * _FIXED_RATE_SECONDS / makers)),
        }
        return checked_workload(**self.workload.model_dump() | pace)

    def _named(self, run: str, work: dict[str, object]) -> Workload:
        return checked_workload(run=run, **work)
