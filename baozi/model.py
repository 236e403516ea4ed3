"""One baozi, one order: what travels, whatever carries it."""

import unicodedata
from typing import Annotated, Self
from uuid import UUID, uuid5

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from baozi.errors import NotABaozi, UsageError
from baozi.shown import is_control, shown

#: Namespace of the task ids. Fixed for ever: the same baozi put twice, by any release, is the same task.
_NAMESPACE = UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")

#: Context of a validation: the item was made by an earlier release.
_OLD = {"old": True}

#: Letters in a name. Four bytes each in UTF-8 at the most, so that a name with a suffix is still a file's
#: name (255 bytes) and an AMQP short string (255 bytes).
_LONGEST_NAME = 60


def _plain(name: str, info: ValidationInfo) -> str:
    if "/" in name:
        raise ValueError("must not contain '/', which parts a baozi's id")
    if name.startswith("."):
        raise ValueError("must not start with '.', since it names a file")
    controls = set(filter(is_control, name))
    if info.context == _OLD:
        # Before, a name could have these: what carries it is found, counted, and shown with them written out.
        controls = {letter for letter in controls if unicodedata.category(letter) != "Cf"}
    if controls:
        raise ValueError("must not contain control characters")
    return name


#: The name of a run or a producer.
Name = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME), AfterValidator(_plain)]
#: UTC, epoch seconds.
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
#: Which baozi of its producer, from 0; 2**63 - 1 is the largest integer a ledger's column holds.
Number = Annotated[int, Field(ge=0, lt=2**63)]


class _Item(BaseModel):
    """What stands in a message's one argument: of which run, and whose."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    run: Name
    producer: Name

    @classmethod
    def parse(cls, data: object, old: bool = False) -> Self:
        """Read a message's one argument.

        Args:
            data: the argument.
            old: whether its names may be those of an earlier release, as :func:`checked_name` says.

        Raises:
            NotABaozi: a field is missing, too many, or not what it must be; says which, and of what.
        """
        try:
            return cls.model_validate(data, context=_OLD if old else None)
        except ValidationError as error:
            raise NotABaozi(_first_fault(cls.__name__.lower(), error)) from None


class Baozi(_Item):
    """One steamed bun: the ``number``-th that ``producer`` made in ``run``, at ``made_at``."""

    number: Number
    made_at: Time

    @property
    def id(self) -> str:
        """``run/producer/number``, unlike any other baozi's."""
        return f"{self.run}/{self.producer}/{self.number}"

    @property
    def task_id(self) -> str:
        """The Celery task id: the UUIDv5 of the id, so that the same baozi put twice is the same task."""
        return str(uuid5(_NAMESPACE, self.id))

    @property
    def made_line(self) -> str:
        """The course's line for one that was made."""
        return f"{shown(self.producer)}生产了第{self.number}个包子"

    def eaten_line(self, consumer: str) -> str:
        """The course's line for one that ``consumer`` ate."""
        return f"{consumer}吃了{self.made_line}"


#: Baozi in one message at the most: as many as a task may eat at once.
LONGEST_TRAY = 10_000


class Tray(_Item):
    """Several baozi that one producer made at once, sent in one message."""

    numbers: Annotated[list[Number], Field(min_length=1, max_length=LONGEST_TRAY)]
    made_at: Time

    @property
    def baozi(self) -> list[Baozi]:
        """Each of them."""
        # Nothing is left to be checked of any.
        return [
            Baozi.model_construct(run=self.run, producer=self.producer, number=number, made_at=self.made_at)
            for number in self.numbers
        ]

    @property
    def task_id(self) -> str:
        """The Celery task id: the same baozi put twice on one tray are the same task."""
        numbers = ",".join(map(str, self.numbers))
        return str(uuid5(_NAMESPACE, f"{self.run}/{self.producer}/tray/{numbers}"))


class Order(_Item):
    """What one producer committed to in a run, sent as its last message: the heir of the ``None`` sentinel.

    Numbers below ``accepted`` were accepted; those from there to below ``attempted`` have an unknown fate.
    """

    accepted: Number
    attempted: Number
    closed_at: Time

    @model_validator(mode="after")
    def _attempted_covers_accepted(self) -> Self:
        if self.attempted < self.accepted:
            raise ValueError("attempted is less than accepted")
        return self

    @property
    def task_id(self) -> str:
        """The Celery task id: the same order closed at the same count is the same task."""
        return str(uuid5(_NAMESPACE, f"{self.run}/{self.producer}/order/{self.accepted}/{self.attempted}"))


def checked_name(name: str, of: str, old: bool = False) -> str:
    """Return ``name`` if it may name a ``of`` ("run", "producer").

    Args:
        name: the name.
        of: what it names, for the error.
        old: whether it may be there already. An earlier release took names with format characters:
            bidirectional controls and characters of no width.

    Raises:
        UsageError: it is empty, too long, or has a letter that a name may not have.
    """
    try:
        fields = {"run": name, "producer": name, "number": 0, "made_at": 0.0}
        Baozi.model_validate(fields, context=_OLD if old else None)
    except ValidationError as error:
        raise UsageError(f"The {of}'s name {_reason(error)}.") from None
    return name


def _first_fault(what: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    field = "".join(f"{_shown(str(part))} " for part in first["loc"])
    return f"Not a{'n' if what == 'order' else ''} {what}: {field}{_reason(error)}."


def _shown(field: str) -> str:
    """A field's name as a sentence can bear it: a stranger's may hold anything, and be of any length."""
    if len(field) > _LONGEST_NAME:
        field = field[:_LONGEST_NAME] + "…"
    return field if shown(field) == field else repr(field)


#: What is wrong, in our words, by Pydantic's name for it.
_REASONS = {
    "string_too_short": "is empty",
    "string_too_long": f"is over {_LONGEST_NAME} characters long",
    "missing": "is missing",
    "extra_forbidden": "is a field too many",
    "model_type": "should be a valid dictionary of named fields",
    "invalid_key": "is a field whose name is not a string",
}


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] in _REASONS:
        return _REASONS[first["type"]]
    message = first["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "should be", 1).replace("Input must be", "must be", 1)
