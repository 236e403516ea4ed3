"""What a chaos leaves: a file, of which docs/reliability.md is made."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from baozi.errors import UsageError
from side_by_side.menu import Menu
from side_by_side.results import Machine


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Step(_Record):
    """One fault."""

    fault: str
    whom: str
    killed: str | None
    """Who was killed: a "worker", a "producer" or the "broker"."""
    at: float
    """Seconds from the start."""
    recovered_after: float
    """Seconds to the first baozi that was eaten after it; where a fault lasts, after its end."""


class Sums(_Record):
    """The audit of all producers' orders, and the deliveries."""

    accepted: int | None
    """None where an order was left open."""
    eaten: int
    lost: int
    recovered: int
    """Eaten though a producer never heard that it was accepted."""
    unexpected: int
    eaten_twice: int
    """By the workers' journals, which know nothing of the ledger's key."""
    deliveries: int
    """As the ledger counts them: each baozi once, and once more for each time it came again."""
    most_deliveries: int
    """What there may be: one a baozi, and what each fault can have had delivered again."""
    dead: int

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, and nothing came that should not."""
        return (
            self.accepted is not None
            and not self.lost
            and not self.unexpected
            and not self.eaten_twice
            and not self.dead
            and self.deliveries <= self.most_deliveries
        )


class ChaosResults(_Record):
    """A whole chaos."""

    format: Literal["chaos 1"] = "chaos 1"
    made_at: float
    machine: Machine
    on: str
    transport: str
    seed: int
    seconds: float
    menu: Menu
    steps: list[Step]
    sums: Sums
    error: str | None = None
    """The sentence with which it ended, where work did not go on."""

    @property
    def sound(self) -> bool:
        """Whether all that must hold did."""
        return self.error is None and self.sums.sound

    def kills(self, whom: str) -> int:
        """How many of the steps killed a "worker", a "producer" or the "broker"."""
        return sum(step.killed == whom for step in self.steps)


def read_chaos(path: Path) -> ChaosResults:
    """Read what a chaos left.

    Raises:
        UsageError: it cannot be read, or is no such file.
    """
    try:
        return ChaosResults.model_validate_json(path.read_text())
    except OSError as error:
        raise UsageError(f"The results in {path} cannot be read: {error.strerror}.") from None
    except ValidationError:
        raise UsageError(f"The file {path} does not hold the results of a chaos.") from None
