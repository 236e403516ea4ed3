"""What the lesson records: each failure, its small work, and the transports on which it happens."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from baozi.workload import Workload, checked_workload
from side_by_side.comparison_results import Verdict
from side_by_side.faults.fault import Fault
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.observed_run import ObservedRun
from side_by_side.transports import TRANSPORTS, Transport

#: Each consumer needs longer for a baozi than a producer, so that some wait in the store.
_FLOWING: dict[str, object] = {
    "producers": ("alex", "peiqi"),
    "per_producer": 6,
    "make_seconds": 0.2,
    "eat_seconds": 0.3,
}
#: Baozi come slowly, so that the consumers wait most of the time.
_WAITING: dict[str, object] = {
    "producers": ("alex",),
    "per_producer": 8,
    "make_seconds": 0.4,
    "eat_seconds": 0.1,
}
#: More is made than can be eaten meanwhile, so that the store has something to lose.
_STORING: dict[str, object] = {
    "producers": ("alex", "peiqi"),
    "per_producer": 8,
    "make_seconds": 0.05,
    "eat_seconds": 0.2,
}
#: Ten trays of 400 baozi are more than a Queue's pipe holds (64 KiB): the rest is still in the producer.
_BURST: dict[str, object] = {
    "producers": ("alex",),
    "per_producer": 4000,
    "make_seconds": 0.0,
    "eat_seconds": 0.003,
    "tray": 400,
}
#: Two producers: the one that is not killed joins a queue that still counts what the killed one has put.
_BURST_OF_TWO = _BURST | {"producers": ("alex", "peiqi")}
#: There is room for three, and more is made meanwhile than is eaten.
_CROWDED: dict[str, object] = {
    "producers": ("alex", "peiqi"),
    "per_producer": 8,
    "make_seconds": 0.02,
    "eat_seconds": 0.2,
    "capacity": 3,
}


@dataclass(frozen=True, slots=True)
class SceneFailure:
    """What goes wrong in a run, or what is scarce in it."""

    name: str
    """The name of a fault of ``baozi compare``, "none" or "full-store"."""
    work: dict[str, object]
    other_work: dict[str, dict[str, object]] = field(default_factory=dict)
    """By transport: another work, where only that one shows what the failure does."""
    without: dict[str, Verdict] = field(default_factory=dict)
    """The settings of Celery that are missed under it, each with the verdict of a run without it."""

    @property
    def fault(self) -> Fault[ObservedRun] | None:
        """The fault; None if nothing is killed."""
        return COMPARE_FAULTS.get(self.name)

    @property
    def is_killing(self) -> bool:
        """Whether it kills a process."""
        return self.fault is not None


#: In the course's order: first without a failure, then one process after the other.
FAILURES = (
    SceneFailure("none", _FLOWING),
    SceneFailure("kill-busy-consumer", _FLOWING, without={"late-acknowledgement": Verdict.LOST}),
    SceneFailure("kill-idle-consumer", _WAITING),
    SceneFailure(
        "kill-producer",
        _FLOWING,
        other_work={"queue": _BURST, "joinable-queue": _BURST_OF_TWO, "rabbitmq-queue": _BURST},
    ),
    SceneFailure("kill-store", _STORING, without={"ledgers-key": Verdict.DUPLICATED}),
    SceneFailure("full-store", _CROWDED, without={"confirms": Verdict.LOST}),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One run that is recorded."""

    failure: SceneFailure
    transport: Transport
    without: str | None
    expected: Verdict
    """The verdict that is known. A recording with another one does not become part of the lesson."""

    @property
    def title(self) -> str:
        """The failure, the transport and the removed setting, for progress and errors."""
        return f"{self.failure.name}, {self.transport.name}" + (
            f" without {self.without}" if self.without else ""
        )

    @property
    def workload(self) -> Workload:
        """The work of the run."""
        work = self.failure.other_work.get(self.transport.name, self.failure.work)
        return checked_workload(**work | {"run": "lesson", "deadline": self.transport.limits[0]})


def scenes() -> Iterator[Scene]:
    """Yield each run of the lesson, failure by failure."""
    for failure in FAILURES:
        for transport in TRANSPORTS.values():
            case = failure.fault.cases.get(transport.name) if failure.fault else None
            if failure.is_killing and case is None:
                continue  # it has no such process
            yield Scene(failure, transport, None, case.expected if case else Verdict.SOUND)
        for setting, expected in failure.without.items():
            yield Scene(failure, TRANSPORTS["celery"], setting, expected)
