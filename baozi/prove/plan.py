"""The fault plan: which fault comes when, all chosen by the seed, so that the same seed replays it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from baozi.errors import UsageError
from baozi.prove.faults import FAULTS

#: How the task is called: at once; with a countdown; so that it asks for a retry.
NOW, ETA, RETRY = "now", "eta", "retry"
CALLS = (NOW, ETA, RETRY)
#: What is tried unless something else is asked: each fault, and a killed worker that holds delayed calls.
DEFAULT = (*FAULTS, "kill-worker:eta", "kill-worker:retry")
#: The part of the calls after which a fault is injected.
_EARLIEST, _LATEST = 0.2, 0.6


@dataclass(frozen=True)
class PlannedStep:
    """One fault of the plan."""

    fault: str
    call: str
    """``now``, ``eta`` or ``retry``."""
    after: float
    """The part of the calls that must have been started, or accepted if they are delayed."""
    seed: int
    """Of the fault's own choices."""

    @property
    def name(self) -> str:
        """The fault, and the way of the calls if they are not made at once."""
        return self.fault if self.call == NOW else f"{self.fault}:{self.call}"


def parsed(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the fault and the way of the calls of each ``FAULT`` or ``FAULT:CALL``.

    Raises:
        UsageError: there is no such fault or call.
    """
    found = []
    for name in names:
        fault, _, call = name.partition(":")
        if fault not in FAULTS:
            raise UsageError(
                "There is no fault {fault!r}. There are {listed}.", fault=fault, listed=", ".join(FAULTS)
            )
        if call and call not in CALLS:
            raise UsageError(
                "Calls cannot be made {call!r}. They can be {listed}.", call=call, listed=", ".join(CALLS)
            )
        found.append((fault, call or NOW))
    return found


def steps(names: Sequence[str], seed: int) -> Iterator[PlannedStep]:
    """Yield the steps of one round after the other, without an end.

    Args:
        names: the faults of each round.
        seed: the same seed gives the same steps.
    """
    chance = Random(seed)
    chosen = parsed(names)
    while True:
        for fault, call in chosen:
            yield PlannedStep(fault, call, chance.uniform(_EARLIEST, _LATEST), chance.getrandbits(32))
