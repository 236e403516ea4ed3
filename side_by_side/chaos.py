"""Chaos: faults by a seed's choice, one after the other, on a kitchen at work; at the end, the sums."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

from baozi.errors import BaoziError
from side_by_side.chaos_results import ChaosResults, Step, Sums
from side_by_side.faults.strike import Strike, Victim
from side_by_side.kitchen import Kitchen
from side_by_side.machine import this_machine
from side_by_side.menu import Menu
from side_by_side.targets.target import Target

#: Seconds that work goes on undisturbed between two faults, at the most.
_LONGEST_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What a seed has chosen for one step."""

    strike: Strike
    pause: float
    """Seconds, from the moment when work is seen to go on."""
    seed: int
    """Of the strike's own chances."""


def choices(seed: int, strikes: Sequence[Strike], times: int | None = None) -> Iterator[Choice]:
    """Yield what ``seed`` chooses of ``strikes``: the same each time.

    Args:
        seed: the chance.
        strikes: each comes up, in an order by chance, before any comes up again.
        times: how many times each of them; default: no end, and what is quick comes up more often.
    """
    chance = Random(seed)
    for _ in count() if times is None else range(times):
        deal = [strike for strike in strikes for _ in range(strike.often if times is None else 1)]
        chance.shuffle(deal)
        for strike in deal:
            yield Choice(strike, chance.uniform(0, _LONGEST_PAUSE), chance.getrandbits(32))


@dataclass(frozen=True, slots=True)
class Plan:
    """A chaos to be."""

    on: str
    """What the broker is: "private", "container" or "cluster"."""
    transport: str
    menu: Menu
    strikes: Sequence[Strike]
    seed: int
    seconds: float
    """After which no fault begins."""
    times: int | None = None
    """How many times each fault; default: as many as there is time for."""


def chaos(plan: Plan, target: Target, folder: Path, say: Callable[[str], object]) -> ChaosResults:
    """Do it; return what came of it, whatever that is.

    Args:
        plan: what to do.
        target: the broker.
        folder: for ledger, journals and logs.
        say: told of each step, in a line.

    Raises:
        DeadlinePassed, ActorFailed: the kitchen was not ready, before any fault.
        BaoziError: what was eaten cannot be audited.
    """
    began, steps, back = time.time(), list[Step](), 0
    error: BaoziError | None = None
    with Kitchen(target, folder, plan.menu, say) as kitchen:
        start = time.monotonic()
        try:
            for choice in choices(plan.seed, plan.strikes, plan.times):
                if time.monotonic() - start >= plan.seconds:
                    break
                step, given_back = _step(kitchen, choice, start)
                steps.append(step)
                back += given_back
                say(f"{step.at:7.1f} s  {step.fault}: {step.whom}; again after {step.recovered_after:.2f} s")
        except BaoziError as its_error:
            error = its_error
        try:
            kitchen.close_orders()
        except BaoziError as its_error:
            error = error or its_error
        sums = _sums(kitchen, back)
    return ChaosResults(
        made_at=began,
        machine=this_machine(target.version),
        on=plan.on,
        transport=plan.transport,
        seed=plan.seed,
        seconds=time.time() - began,
        menu=plan.menu,
        steps=steps,
        sums=sums,
        error=None if error is None else str(error),
    )


def _step(kitchen: Kitchen, choice: Choice, start: float) -> tuple[Step, int]:
    kitchen.wait_for_work()
    kitchen.pause(choice.pause)
    at = time.monotonic() - start
    struck = choice.strike.do(kitchen, Random(choice.seed))
    recovered = kitchen.recovered_after()
    kills = choice.strike.kills
    step = Step(
        fault=choice.strike.name,
        whom=struck.whom,
        killed=None if kills is Victim.NOBODY else kills.value,
        at=at,
        recovered_after=recovered,
    )
    return step, struck.given_back


def _sums(kitchen: Kitchen, given_back: int) -> Sums:
    total = kitchen.audit().total
    return Sums(
        accepted=total.accepted,
        eaten=total.eaten,
        lost=total.lost,
        recovered=total.recovered,
        unexpected=total.unexpected,
        eaten_twice=kitchen.books.eaten_twice(),
        deliveries=kitchen.books.deliveries(),
        most_deliveries=total.eaten + given_back,
        dead=kitchen.dead(),
    )
