"""What a fault of a kitchen is: what it does, what must hold all the same, and what it did to whom."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from side_by_side.kitchen import Kitchen


class Victim(StrEnum):
    """Whom a fault kills."""

    WORKER = "worker"
    PRODUCER = "producer"
    BROKER = "broker"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Struck:
    """What one strike did."""

    whom: str
    """In a few words."""
    given_back: int = 0
    """How many baozi it can have had delivered again, or put again, at the most."""


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that is injected into a kitchen at work, which goes on."""

    name: str
    holds: str
    """What must hold, whatever the moment."""
    do: "Callable[[Kitchen, Random], Struck]"
    """Injects it, mends what a service manager or an administrator would, and sees that what it broke
    works again; its chances are the generator's alone."""
    kills: Victim = Victim.NOBODY
    often: int = 1
    """How many times as often as others it comes up in a mix: what is quick may come often."""
    needs_cluster: bool = False
    """Whether it needs several nodes."""
