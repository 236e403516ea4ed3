"""What a comparison leaves: ``results.json``. The table and the report are made from this alone."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baozi.errors import UsageError
from baozi.workload import Workload

#: Raised with each change of what is below, so that an old file is refused and not misread.
FORMAT: Literal[2] = 2


class Verdict(StrEnum):
    """What became of a run's baozi, the worst first: a run that is wedged may also have lost some."""

    WEDGED = "wedged"
    LOST = "lost"
    DUPLICATED = "duplicated"
    SOUND = "sound"


class Measure(StrEnum):
    """What a run was for."""

    FLAT_OUT = "flat out"
    FIXED_RATE = "fixed rate"
    FAULT = "fault"
    ACROSS_MACHINES = "across machines"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Counts(_Record):
    """The sums over the multisets of all journals, as Jepsen's ``total-queue`` checker does them."""

    attempted: int
    accepted: int
    eaten: int
    lost: int
    duplicated: int
    recovered: int
    unexpected: int


class Usage(_Record):
    """What the operating system says that the run took, the broker's or the Manager's share included."""

    cpu_seconds_per_10000: float
    peak_memory: dict[str, int]
    """Bytes by role: "producer", "consumer", "store"; of the largest process of that role."""


class Latency(_Record):
    """Seconds from attempted to eaten, at the offered rate."""

    offered_per_second: float
    p50: float
    p99: float
    max: float
    curve: list[tuple[float, float]]
    """Percentile (0 to 100) and its seconds."""


class Moment(_Record):
    """The run's state at ``at`` seconds from its start."""

    at: float
    accepted: int
    eaten: int


class Run(_Record):
    """One run of one transport."""

    transport: str
    measure: Measure
    fault: str | None = None
    repetition: int
    order: int
    """Which run of the whole comparison it was, from 0: the order is shuffled."""
    workload: Workload | None = None
    """What was done in it: under a fault, the work that makes the verdict certain."""
    counts: Counts
    verdict: Verdict
    expected: Verdict
    seconds: float
    accepted_per_second: float
    eaten_per_second: float
    latency: Latency | None = None
    usage: Usage | None = None
    fault_at: float | None = None
    """Seconds from the start at which the fault was injected, work being in flight."""
    timeline: list[Moment] = []
    eaten_by: dict[str, int] = {}
    """How many each consumer ate, as ``name`` or ``name@machine``."""
    error: str | None = None
    """The sentence with which the run ended, where it did not end well."""

    missed: int = 0
    """Lines that could not be written to the journals. If there are any, all other sums are wrong."""

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that this transport states for this fault, and can be relied on."""
        return self.verdict is self.expected and not self.missed


class Machine(_Record):
    """Where it was measured. No host name: it says nothing about speed."""

    system: str
    processor: str
    cores: int
    memory: int
    """Bytes."""
    python: str
    versions: dict[str, str]
    """Of the libraries and of the broker."""


class Results(_Record):
    """A whole comparison."""

    format: Literal[2] = FORMAT
    made_at: float
    seed: int
    finished: bool
    """False when it was interrupted: what there is, is whole runs."""
    machine: Machine
    workload: Workload
    offered_per_second: float
    repeat: Annotated[int, Field(ge=1)]
    accepted_means: dict[str, str]
    """For each transport, in its own words."""
    runs: list[Run]


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        UsageError: it cannot be read, was cut short, is of another version, or is no results file.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The results in {path} cannot be read: {error}.") from None
    try:
        return Results.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "format":
            raise UsageError(f"The results in {path} are of another version than {FORMAT}.") from None
        what = "was cut short or is no JSON" if first["type"] == "json_invalid" else f"is not ours ({where})"
        raise UsageError(f"The results file {path} {what}.") from None
