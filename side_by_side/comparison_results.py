"""The contents of ``results.json`` of a comparison. The tables and the report are made from it alone."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from baozi.errors import UsageError
from baozi.language import Sentence
from baozi.workload import Workload
from side_by_side.results import Machine, ResultModel

#: The version of the file format. It rises with each change that an older file would be misread after.
FORMAT: Literal[2] = 2


class Verdict(StrEnum):
    """What happened to a run's baozi, the worst first. A run that is wedged may also have lost some."""

    WEDGED = Sentence("wedged")
    LOST = Sentence("lost")
    DUPLICATED = Sentence("duplicated")
    SOUND = Sentence("sound")


class RunKind(StrEnum):
    """What a run measures."""

    FLAT_OUT = Sentence("flat out")
    FIXED_RATE = Sentence("fixed rate")
    FAULT = Sentence("fault")
    ACROSS_MACHINES = Sentence("across machines")


class Counts(ResultModel):
    """Counts over all journals, as Jepsen's ``total-queue`` checker makes them."""

    attempted: int
    accepted: int
    eaten: int
    lost: int
    duplicated: int
    recovered: int
    unexpected: int


class Usage(ResultModel):
    """What the run used of the machine, with the broker or the Manager."""

    cpu_seconds_per_10000: float
    peak_memory: dict[str, int]
    """Bytes of the largest process of each role: "producer", "consumer", "store"."""


class Latency(ResultModel):
    """Seconds from attempted to eaten, at the offered rate."""

    offered_per_second: float
    p50: float
    p99: float
    max: float
    curve: list[tuple[float, float]]
    """Percentiles (0 to 100) and their seconds."""


class Moment(ResultModel):
    """The counts at ``at`` seconds from the start of the run."""

    at: float
    accepted: int
    eaten: int


class Run(ResultModel):
    """One run of one transport."""

    transport: str
    measure: RunKind
    fault: str | None = None
    repetition: int
    order: int
    """The number of the run in the comparison, from 0. The order is random."""
    workload: Workload | None = None
    """What was done in the run. Under a fault, it is a workload whose verdict is known."""
    counts: Counts
    verdict: Verdict
    expected: Verdict
    seconds: float
    accepted_per_second: float
    eaten_per_second: float
    latency: Latency | None = None
    usage: Usage | None = None
    fault_at: float | None = None
    """Seconds from the start to the fault, which was injected while work was going on."""
    timeline: list[Moment] = Field(default_factory=list)
    eaten_by: dict[str, int] = Field(default_factory=dict)
    """How many baozi each consumer ate. Its name is ``name`` or ``name@machine``."""
    error: str | None = None
    """The error with which the run ended, if any."""

    missed: int = 0
    """Lines that could not be written to the journals. If there are any, all counts are wrong."""

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one and the counts are right."""
        return self.verdict is self.expected and not self.missed


class NotRun(ResultModel):
    """A fault that could not be injected on a transport."""

    transport: str
    fault: str
    reason: str
    """In one sentence."""


class ComparisonResults(ResultModel):
    """The results of one comparison."""

    format: Literal[2] = FORMAT
    made_at: float
    seed: int
    finished: bool
    """False if it was interrupted. The runs in it are complete."""
    machine: Machine
    workload: Workload
    offered_per_second: float
    repeat: Annotated[int, Field(ge=1)]
    accepted_means: dict[str, str]
    """What "accepted" means on each transport."""
    runs: list[Run]
    not_run: list[NotRun] = Field(default_factory=list)


def read_results(path: Path) -> ComparisonResults:
    """Read a results file.

    Raises:
        UsageError: the file cannot be read, was cut off, has another version, or is no results file.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("The results in {path} cannot be read: {error}.", path=path, error=error) from None
    try:
        return ComparisonResults.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "format":
            raise UsageError(
                "The results in {path} have another format version than {format}.", path=path, format=FORMAT
            ) from None
        if first["type"] == "json_invalid":
            raise UsageError("The results file {path} was cut off or is not JSON.", path=path) from None
        raise UsageError(
            "The file {path} is not a results file of baozi ({where}).", path=path, where=where
        ) from None
