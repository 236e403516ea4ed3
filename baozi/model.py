"""The data of a message: a baozi, a tray, or an opened or closed order."""

import unicodedata
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID, uuid4, uuid5

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
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
    # A control character is not printable. Most names are, and each message has two.
    controls = set() if name.isprintable() else set(filter(is_control, name))
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
#: What tells one producer's order from every other order, of the same run and name too.
OrderId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
#: Which opening of its order, from 1: a producer that resumes opens its order again.
Session = Annotated[int, Field(ge=1, lt=2**31)]
#: The first and the last of consecutive numbers.
Range = Annotated[list[Number], Field(min_length=2, max_length=2)]

#: The message header that names the order which a baozi belongs to. Other Celery clients send none.
ORDER_HEADER = "baozi-order"
#: The order of a message without that header.
NO_ORDER = ""
#: The headers that tell which message of an order this is: a string, a string, an integer, a float.
RUN_HEADER, PRODUCER_HEADER = "baozi-run", "baozi-producer"
NUMBER_HEADER, MADE_AT_HEADER = "baozi-number", "baozi-made-at"
#: The most ranges of unknown numbers that an order can name.
_MOST_RANGES = 10_000


class _Item(BaseModel):
    """A message's one argument, with its run and producer."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    called: ClassVar[str]
    """What a reason calls it."""

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
            raise NotABaozi(_first_fault(cls.called, error)) from None

    @property
    def argument(self) -> dict[str, Any]:
        """The message's one argument."""
        return self.__dict__.copy()  # as dict(self), many times faster


class Baozi(_Item):
    """One steamed bun: the ``number``-th that ``producer`` made in ``run``, at ``made_at``."""

    called = "baozi"

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
    def headers(self) -> dict[str, str | int | float]:
        """The message headers that tell which baozi this is, for a message whose body belongs to the user."""
        return {
            RUN_HEADER: self.run,
            PRODUCER_HEADER: self.producer,
            NUMBER_HEADER: self.number,
            MADE_AT_HEADER: self.made_at,
        }

    @property
    def made_line(self) -> str:
        """The course's line for one that was made."""
        return f"{shown(self.producer)}生产了第{self.number}个包子"

    def eaten_line(self, consumer: str) -> str:
        """The course's line for one that ``consumer`` ate."""
        return f"{shown(consumer)}吃了{self.made_line}"


#: Baozi in one message at the most: as many as a task may eat at once.
LONGEST_TRAY = 10_000


class Tray(_Item):
    """Several baozi that one producer made at once, sent in one message."""

    called = "tray"

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


class Closing(_Item):
    """What a producer had accepted when it closed its order: its last message, in place of a ``None``.

    An order with an id names each number whose outcome is unknown: the others below ``attempted`` were
    accepted.
    In an order without an id, as older releases send it, the numbers below ``accepted`` were accepted, and
    those from there to below ``attempted`` are unknown.
    """

    called = "order"

    accepted: Number
    """How many were accepted."""
    attempted: Number
    """Numbers below this were attempted."""
    closed_at: Time
    order: OrderId | Literal[""] = NO_ORDER
    session: Session = 1
    unknown: Annotated[list[Range], Field(max_length=_MOST_RANGES)] = []
    """The numbers whose outcome is unknown, as ascending ranges."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.attempted < self.accepted:
            raise ValueError("attempted is less than accepted")
        following = 0
        for first, last in self.unknown:
            if not following <= first <= last < self.attempted:
                raise ValueError("unknown is not a list of ascending ranges below attempted")
            following = last + 1
        if self.order and self.accepted != self.attempted - sum(
            last - first + 1 for first, last in self.unknown
        ):
            raise ValueError("accepted and unknown are not attempted together")
        if self.unknown and not self.order:
            raise ValueError("unknown needs an order's id")
        return self

    @property
    def argument(self) -> dict[str, Any]:
        """The message's one argument. Without an id it is what workers of earlier releases take."""
        return self.model_dump(exclude=None if self.order else {"order", "session", "unknown"})

    @property
    def task_id(self) -> str:
        """The Celery task id: the same order closed at the same count is the same task."""
        parts = [self.run, self.producer, "order", f"{self.accepted}/{self.attempted}"]
        if self.order:
            parts += [self.order, str(self.session)]
        return str(uuid5(_NAMESPACE, "/".join(parts)))


class Opening(_Item):
    """A producer continues its order, which is open until the next :class:`Closing`."""

    called = "opening"

    order: OrderId
    session: Session
    opened_at: Time

    @property
    def task_id(self) -> str:
        """The Celery task id: each session opens its order once."""
        return str(uuid5(_NAMESPACE, f"{self.run}/{self.producer}/opening/{self.order}/{self.session}"))


def follower_id(task_id: str, number: int) -> str:
    """Return the Celery task id of a follower of a task: the same each time the task is sent or executed.

    Args:
        task_id: the id of the task that it follows.
        number: which of those that follow it this is, from 0.
    """
    return str(uuid5(_NAMESPACE, f"{task_id}/follower/{number}"))


def new_order_id() -> str:
    """Return a new order's id, which is unique and cannot be guessed."""
    return uuid4().hex


_order_id: TypeAdapter[str] = TypeAdapter(OrderId)


def order_of(header: object) -> str:
    """Return the order that a message's header :data:`ORDER_HEADER` names, or :data:`NO_ORDER` for None.

    Raises:
        NotABaozi: it is no order's id.
    """
    if header is None:
        return NO_ORDER
    try:
        return _order_id.validate_python(header, strict=True)
    except ValidationError:
        raise NotABaozi(f"Not a baozi: its header {ORDER_HEADER} is not an order's id.") from None


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
        raise UsageError(f"The {of}'s name {reason(error)}.") from None
    return name


def _first_fault(what: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    field = "".join(f"{_shown(str(part))} " for part in first["loc"])
    return f"Not a{'n' if what[0] == 'o' else ''} {what}: {field}{reason(error)}."


def _shown(field: str) -> str:
    """Return a field's name printable and shortened, for an error. A foreign message may contain anything."""
    if len(field) > _LONGEST_NAME:
        field = field[:_LONGEST_NAME] + "…"
    return field if shown(field) == field else repr(field)


#: What is wrong, in our words, by Pydantic's name for it.
_REASONS = {
    "string_too_short": "is empty",
    "string_too_long": f"is over {_LONGEST_NAME} characters long",
    "missing": "is missing",
    "missing_argument": "is missing",
    "missing_positional_only_argument": "is missing",
    "missing_keyword_only_argument": "is missing",
    "unexpected_positional_argument": "is an argument too many",
    "unexpected_keyword_argument": "is an argument too many",
    "multiple_argument_values": "is given twice",
    "extra_forbidden": "is a field too many",
    "model_type": "should be a valid dictionary of named fields",
    "invalid_key": "is a field whose name is not a string",
}


def reason(error: ValidationError) -> str:
    """Return what is wrong first, in plain words, to follow the name of a field."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] in _REASONS:
        return _REASONS[first["type"]]
    message = first["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "should be", 1).replace("Input must be", "must be", 1)
