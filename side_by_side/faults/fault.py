"""What a fault is: what it does, what must hold, and on which transports and brokers it can run."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Generic, TypeVar

from baozi.language import Sentence
from side_by_side.comparison_results import Verdict

#: The transports that do the main job: Celery workers that take one baozi at once, or a tray of them.
MAIN_JOB = ("celery", "celery-trays")
#: The brokers that a run can have: a private node, one node in a container, three nodes in containers.
ONE_NODE, CLUSTER = ("private", "container"), ("cluster",)
ANY_BROKER = (*ONE_NODE, *CLUSTER)

#: What a fault is injected into: a chaos environment, or one run of a comparison.
Work = TypeVar("Work")


class Killed(StrEnum):
    """What a fault kills."""

    WORKER = "worker"
    PRODUCER = "producer"
    BROKER = "broker"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Effect:
    """What one injection did."""

    target: str
    """The processes, nodes or connections that it hit, in a few words."""
    may_be_redelivered: int = 0
    """The largest number of baozi that it can cause to be delivered again or put again."""
    at: float = field(default_factory=time.time)
    """When it was injected, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Case:
    """A fault on one transport of a comparison."""

    expected: Verdict
    """The verdict that the transport is known to have under this fault."""
    workload: Mapping[str, object]
    """The workload during which the fault is injected: its fields, by name."""


@dataclass(frozen=True, slots=True)
class Fault(Generic[Work]):
    """A fault. A new one is a new entry in a module of this folder."""

    name: str
    does: str
    """What it breaks, in one sentence."""
    holds: str
    """What must hold, at whatever moment it is injected."""
    inject: Callable[[Work, Random], Effect | None]
    """Injects it now; or returns None, if the moment for it has not come, and is called again.

    It repairs what a service manager or an administrator would repair, and checks that what it broke works
    again. All its random choices come from the generator.
    """
    transports: Collection[str] = MAIN_JOB
    """The transports on which it can run."""
    elsewhere: str = ""
    """Why it cannot run on other transports, in one sentence; empty if the names say enough."""
    brokers: Collection[str] = ANY_BROKER
    """The brokers on which it can run, if the transport has one."""
    kills: Killed = Killed.NOTHING
    weight: int = 1
    """How often it comes up in a random mix, compared with others. A fast fault can have a high weight."""
    cases: Mapping[str, Case] = field(default_factory=dict)
    """In a comparison, by transport: the workload and the expected verdict."""
    requirement: Callable[[], str | None] = lambda: None
    """Returns what this machine lacks for it, as in "needs git"; None if it lacks nothing."""

    def obstacle(self, transport: str, broker: str | None) -> Sentence | None:
        """Return why the fault cannot run there, in one sentence; None if it can.

        Args:
            transport: the name of the transport.
            broker: "private", "container" or "cluster"; None if the transport has no broker.
        """
        if transport not in self.transports:
            if self.elsewhere:
                return Sentence(self.elsewhere)
            return Sentence(
                "The fault {fault} cannot run on {transport}. It can run on {possible}.",
                fault=self.name,
                transport=transport,
                possible=", ".join(self.transports),
            )
        if broker is not None and broker not in self.brokers:
            options = "/".join(f"--on {one}" for one in self.brokers)
            return Sentence("The fault {fault} needs {options}.", fault=self.name, options=options)
        lacks = self.requirement()
        return Sentence("The fault {fault} {lacks}.", fault=self.name, lacks=lacks) if lacks else None
