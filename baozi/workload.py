"""The workload of a run: its producers, consumers, number of baozi, speeds and the queue's capacity."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from baozi.errors import UsageError
from baozi.model import Baozi, Name

#: Names of producers or consumers. Each is a process, so there are at most 256.
_Names = Annotated[tuple[Name, ...], Field(max_length=256)]
#: Seconds that one baozi takes, from 0 to a day.
_Pace = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Workload(BaseModel):
    """The workload of one run, on any transport. The defaults are the values of the course."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    run: Name = "course"
    producers: _Names = ("alex", "peiqi", "egon")
    per_producer: Annotated[int, Field(ge=1, le=10_000_000)] = 10
    """How many baozi each producer makes."""
    consumers: _Names = ("小明", "小红")
    make_seconds: _Pace = 1
    """Seconds that a producer takes to make one baozi."""
    eat_seconds: _Pace = 2
    """Seconds that a consumer takes to eat one baozi."""
    capacity: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many trays the queue holds before a put waits. None for no limit."""
    tray: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many baozi a producer puts together, as one item of the queue."""
    deadline: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 120
    """Seconds after which the run counts as wedged and is stopped."""

    @field_validator("producers", "consumers")
    @classmethod
    def _one_or_more_different_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
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
        """How many baozi all producers make in total."""
        return len(self.producers) * self.per_producer

    @property
    def least_seconds(self) -> float:
        """Seconds that the run takes on a transport without any delay."""
        making = self.per_producer * self.make_seconds + self.eat_seconds
        eating = self.make_seconds + math.ceil(self.total / len(self.consumers)) * self.eat_seconds
        return max(making, eating)

    def paced(self, factor: float) -> "Workload":
        """Return the same workload with its seconds multiplied by ``factor``.

        With 0.1 it is ten times as fast, and with 0 nothing waits. A factor above 1 also makes the deadline
        longer.

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
        """Make the baozi of ``producer`` and yield them, one tray at a time. The last tray may have fewer.

        Each baozi is due ``make_seconds`` after the one before. The time that a put takes counts towards
        these seconds. If a baozi is late, the next ones are not made faster.
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
    """Return the workload with these fields. All others have their defaults.

    Raises:
        UsageError: a field is out of range or unknown, or the run cannot end before its deadline.
    """
    try:
        return Workload.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = f"'s {first['loc'][0]}" if first["loc"] else ""
        raise UsageError(
            "The workload{field} {problem}.", field=field, problem=_reason(first["type"], first["msg"])
        ) from None


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is unknown"
    return message.removeprefix("Value error, ").replace("Input should", "should", 1)
