"""A demonstration: a rule, the lines with its danger, those that fix it, and what is done and counted."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc
from typing import TYPE_CHECKING

from baozi.doctor.facts import Version
from baozi.doctor.rules import RULES, Rule
from baozi.prove.dangers.app import WORK

if TYPE_CHECKING:
    from baozi.prove.dangers.trial import DangerTrial

#: The doctor's rules by their ids.
DANGERS: dict[str, Rule] = {it.id: it for it in RULES}


@dataclass(frozen=True)
class Demonstration:
    """How one danger is shown."""

    rule: str
    """The rule's id."""
    show: Callable[["DangerTrial"], int]
    """Does it, and returns the number that is compared."""
    counts: str
    """What the number counts."""
    danger: str
    """The lines of ``celeryconfig.py`` that have the danger."""
    fix: str
    """Those that are written instead. By default, the doctor's own."""
    instead: str
    """What is done instead where the fix is not in the app's files: :attr:`DangerTrial.fixed` is true."""
    of: int | None
    """How many there are, if the number is a part of them."""
    most: int
    """The largest number that is no danger."""
    tasks: str
    """The code of the app's tasks."""
    fixed_tasks: str
    """The same with the fix."""
    finds: tuple[str, ...]
    """What the doctor finds in the app with the danger, without a look at a broker or a worker."""
    leaves: tuple[str, ...]
    """What the doctor finds in the app with the fix."""
    gone: str
    """The releases that no longer have the danger. If it is not seen, the demonstration is complete."""
    since: Version
    """The first version of RabbitMQ that has the danger."""

    @property
    def does(self) -> str:
        """What is done, in a sentence or two."""
        return " ".join((getdoc(self.show) or "").split())

    def told(self, number: int) -> str:
        """Return a number with what it counts: ``5 of 5 calls lost``."""
        return (
            f"{number:,} of {self.of:,} {self.counts}" if self.of is not None else f"{number:,} {self.counts}"
        )


#: All demonstrations by the ids of their rules.
DEMONSTRATIONS: dict[str, Demonstration] = {}


def demonstrates(
    rule: str,
    counts: str,
    danger: str = "",
    fix: str | None = None,
    of: int | None = None,
    most: int = 0,
    tasks: str = WORK,
    fixed_tasks: str | None = None,
    instead: str = "",
    finds: tuple[str, ...] | None = None,
    leaves: tuple[str, ...] = (),
    gone: str = "",
    since: Version = (3, 10),
) -> Callable[[Callable[["DangerTrial"], int]], Callable[["DangerTrial"], int]]:
    """Make a function a demonstration. The parameters are the fields of :class:`Demonstration`."""

    def add(show: Callable[["DangerTrial"], int]) -> Callable[["DangerTrial"], int]:
        DEMONSTRATIONS[rule] = Demonstration(
            rule=rule,
            show=show,
            counts=counts,
            danger=danger,
            fix=("" if instead or gone else DANGERS[rule].instead) if fix is None else fix,
            instead=instead,
            of=of,
            most=most,
            tasks=tasks,
            fixed_tasks=tasks if fixed_tasks is None else fixed_tasks,
            finds=(rule, *leaves) if finds is None else finds,
            leaves=leaves,
            gone=gone,
            since=since,
        )
        return show

    return add
