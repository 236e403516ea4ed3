"""``baozi chaos``: injects faults that a seed chooses, one after the other; then audits the work."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from baozi.errors import BaoziError, UsageError
from baozi.language import Sentence
from side_by_side.chaos_environment import ChaosConfiguration, ChaosEnvironment
from side_by_side.faults.fault import Effect, Fault, Killed
from side_by_side.results import Machine, ResultModel, this_machine
from side_by_side.targets.target import BrokerTarget

#: The longest pause between two faults, in seconds.
_LONGEST_PAUSE = 1.0
#: Seconds between two tries to inject a fault whose moment has not come.
_TRY_EVERY = 0.05


class InjectedFault(ResultModel):
    """One fault that was injected."""

    fault: str
    whom: str
    """What it hit, in a few words."""
    killed: str | None
    """What was killed: a "worker", a "producer" or the "broker"."""
    at: float
    """Seconds from the start."""
    recovered_after: float
    """Seconds from the fault, or from its end if it lasts, to the next baozi that was eaten."""


class ChaosCounts(ResultModel):
    """The audit of all orders, and the deliveries."""

    accepted: int | None
    """None if an order was left open."""
    eaten: int
    lost: int
    recovered: int
    """Eaten, although the producer never learned that it was accepted."""
    unexpected: int
    eaten_twice: int
    """By the workers' journals, which do not depend on the ledger's primary key."""
    deliveries: int
    """As the ledger counts them: one for each baozi, and one for each time it was redelivered."""
    most_deliveries: int
    """The largest allowed number: one for each baozi, and what the faults can cause to be redelivered."""
    dead: int

    @property
    def sound(self) -> bool:
        """Whether nothing is lost and nothing came that must not come."""
        return (
            self.accepted is not None
            and not self.lost
            and not self.unexpected
            and not self.eaten_twice
            and not self.dead
            and self.deliveries <= self.most_deliveries
        )


class ChaosResults(ResultModel):
    """The results of one ``baozi chaos``."""

    # In the JSON, the configuration's key is "menu": files of earlier releases have it.
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    format: Literal["chaos 1"] = "chaos 1"
    made_at: float
    machine: Machine
    on: str
    transport: str
    seed: int
    seconds: float
    configuration: ChaosConfiguration = Field(validation_alias="menu", serialization_alias="menu")
    steps: list[InjectedFault]
    sums: ChaosCounts
    error: str | None = None
    """The error that ended it, if work did not go on."""

    @property
    def sound(self) -> bool:
        """Whether everything held that must hold."""
        return self.error is None and self.sums.sound

    def kills(self, killed: str) -> int:
        """Return how many faults killed a "worker", a "producer" or the "broker"."""
        return sum(step.killed == killed for step in self.steps)


def read_chaos(path: Path) -> ChaosResults:
    """Read a results file of ``baozi chaos``.

    Raises:
        UsageError: the file cannot be read, or is not such a file.
    """
    try:
        return ChaosResults.model_validate_json(path.read_text())
    except OSError as error:
        raise UsageError(
            "The results in {path} cannot be read: {strerror}.", path=path, strerror=error.strerror
        ) from None
    except ValidationError:
        raise UsageError(
            "The file {path} does not contain the results of `baozi chaos`.", path=path
        ) from None


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault that a seed has chosen."""

    fault: Fault[ChaosEnvironment]
    pause: float
    """Seconds to wait before it, from the moment when work goes on."""
    seed: int
    """The seed of the fault's own random choices."""


def planned_faults(
    seed: int, faults: Sequence[Fault[ChaosEnvironment]], times: int | None = None
) -> Iterator[PlannedFault]:
    """Yield the faults that ``seed`` chooses. The same seed always chooses the same.

    Args:
        seed: the seed of the random generator.
        faults: each comes up, in random order, before any comes up again.
        times: how many times each comes up; default: without end, and in proportion to the weights.
    """
    chance = Random(seed)
    for _ in count() if times is None else range(times):
        deal = [fault for fault in faults for _ in range(fault.weight if times is None else 1)]
        chance.shuffle(deal)
        for fault in deal:
            yield PlannedFault(fault, chance.uniform(0, _LONGEST_PAUSE), chance.getrandbits(32))


@dataclass(frozen=True, slots=True)
class ChaosPlan:
    """What one ``baozi chaos`` does."""

    on: str
    """The kind of broker: "private", "container" or "cluster"."""
    transport: str
    configuration: ChaosConfiguration
    faults: Sequence[Fault[ChaosEnvironment]]
    seed: int
    seconds: float
    """Seconds after which no fault begins."""
    times: int | None = None
    """How many times each fault is injected; default: as often as the time allows."""


def chaos(
    plan: ChaosPlan, target: BrokerTarget, folder: Path, on_line: Callable[[Sentence], object]
) -> ChaosResults:
    """Do the ``plan`` and return its results, even if something was lost.

    Args:
        plan: what to do.
        target: the broker.
        folder: for the ledger, journals and logs.
        on_line: called with one line after each fault.

    Raises:
        DeadlinePassed, ProcessFailed: the environment was not ready for the first fault.
        BaoziError: the audit is not possible.
    """
    began, steps, redelivered = time.time(), list[InjectedFault](), 0
    error: BaoziError | None = None
    with ChaosEnvironment(target, folder, plan.configuration) as environment:
        start = time.monotonic()
        try:
            for planned in planned_faults(plan.seed, plan.faults, plan.times):
                if time.monotonic() - start >= plan.seconds:
                    break
                step, effect = _inject(environment, planned, start)
                steps.append(step)
                redelivered += effect.may_be_redelivered
                on_line(
                    Sentence(
                        "{at:7.1f} s  {fault}: {target}; work went on after {recovered_after:.2f} s",
                        at=step.at,
                        fault=step.fault,
                        target=effect.target,
                        recovered_after=step.recovered_after,
                    )
                )
        except BaoziError as its_error:
            error = its_error
        try:
            environment.close_orders()
        except BaoziError as its_error:
            error = error or its_error
        counts = _count(environment, redelivered)
    return ChaosResults(
        made_at=began,
        machine=this_machine(target.version),
        on=plan.on,
        transport=plan.transport,
        seed=plan.seed,
        seconds=time.time() - began,
        configuration=plan.configuration,
        steps=steps,
        sums=counts,
        error=None if error is None else str(error),
    )


def _inject(
    environment: ChaosEnvironment, planned: PlannedFault, start: float
) -> tuple[InjectedFault, Effect]:
    """Inject one fault, and wait until work goes on. Returns both what is recorded and its effect."""
    environment.wait_for_work()
    environment.pause(planned.pause)
    at, chance = time.monotonic() - start, Random(planned.seed)
    effect: Effect | None = None
    while (effect := planned.fault.inject(environment, chance)) is None:
        environment.pause(_TRY_EVERY)
    kills = planned.fault.kills
    step = InjectedFault(
        fault=planned.fault.name,
        whom=effect.target,
        killed=None if kills is Killed.NOTHING else kills.value,
        at=at,
        recovered_after=environment.seconds_to_recovery(),
    )
    return step, effect


def _count(environment: ChaosEnvironment, redelivered: int) -> ChaosCounts:
    total = environment.audit().total
    return ChaosCounts(
        accepted=total.accepted,
        eaten=total.eaten,
        lost=total.lost,
        recovered=total.recovered,
        unexpected=total.unexpected,
        eaten_twice=environment.records.eaten_twice(),
        deliveries=environment.records.deliveries(),
        most_deliveries=total.eaten + redelivered,
        dead=environment.dead_letters(),
    )
