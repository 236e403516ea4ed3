"""The workload of a run: its producers, consumers, number of baozi, speeds and the queue's capacity."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from baozi.errors import UsageError
from baozi.model import Baozi, Name

#: Names of those who work at once. Each is a process, and a machine is not at ease with more.
_Names = Annotated[tuple[Name, ...], Field(max_length=256)]
#: What one piece of work takes: nothing, up to a day.
_Pace = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Workload(BaseModel):
    """The workload of one run, on any transport. The defaults are the course's."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    run: Name = "course"
    producers: _Names = ("alex", "peiqi", "egon")
    per_producer: Annotated[int, Field(ge=1, le=10_000_000)] = 10
    """How many baozi each producer makes."""
    consumers: _Names = ("小明", "小红")
    make_seconds: _Pace = 1
    eat_seconds: _Pace = 2
    capacity: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many trays the place holds before a put waits. Default: no bound."""
    tray: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many baozi are put at once, as one item."""
    deadline: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 120
    """Seconds after which the run is given up as wedged."""

    @field_validator("producers", "consumers")
    @classmethod
    def _someone_and_nobody_twice(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("are none, and a workload without them cannot end")
        name, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise ValueError(f"have one name twice: {name}")
        return names

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if self.least_seconds >= self.deadline:
            raise ValueError(
                f"cannot end: it takes {self.least_seconds:g} s or more, its deadline is {self.deadline:g} s"
            )
        return self

    @property
    def total(self) -> int:
        """How many baozi all producers make together."""
        return len(self.producers) * self.per_producer

    @property
    def least_seconds(self) -> float:
        """Seconds that it takes at the least, on a transport that costs nothing."""
        making = self.per_producer * self.make_seconds + self.eat_seconds
        eating = self.make_seconds + math.ceil(self.total / len(self.consumers)) * self.eat_seconds
        return max(making, eating)

    def paced(self, factor: float) -> "Workload":
        """Return the same work with ``factor`` times its seconds: 0.1 is ten times as fast, 0 is flat out.

        The deadline grows with a factor above 1 and never shrinks.

        Raises:
            UsageError: ``factor`` is negative, or the resulting seconds are out of range.
        """
        return checked_workload(
            **self.model_dump()
            | {
                "make_seconds": self.make_seconds * factor,
                "eat_seconds": self.eat_seconds * factor,
                "deadline": self.deadline * max(1.0, factor),
            }
        )

    def trays(self, producer: str) -> Iterator[list[Baozi]]:
        """Make what ``producer`` has to make, in order, and yield it by the tray; the last may hold fewer.

        Each baozi is done ``make_seconds`` after the one before by the clock, not by naps, so that the rate
        does not sink with what a put costs; one that is late is not caught up with.
        """
        tray: list[Baozi] = []
        due = time.monotonic()
        for number in range(self.per_producer):
            due = max(due + self.make_seconds, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            tray.append(Baozi(run=self.run, producer=producer, number=number, made_at=time.time()))
            if len(tray) == self.tray:
                yield tray
                tray = []
        if tray:
            yield tray


def checked_workload(**fields: object) -> Workload:
    """Return the workload with these fields, and the course's defaults for the others.

    Raises:
        UsageError: a field is out of range or unknown, or the work cannot end; says which in one sentence.
    """
    try:
        return Workload.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = f"'s {first['loc'][0]}" if first["loc"] else ""
        raise UsageError(f"The workload{field} {_reason(first['type'], first['msg'])}.") from None


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is unknown"
    return message.removeprefix("Value error, ").replace("Input should", "should", 1)
