"""The contents of messages: a baozi, a tray of baozi, and the opening and closing of an order.

The models check what arrives in a message. Names, numbers and times have their limits here.
"""

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
from baozi.library_sentences import recognized
from baozi.shown import is_control, shown

#: The namespace of the task ids. It must never change: a baozi has the same task id in all releases.
_NAMESPACE = UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")

#: The context of a validation of data that an earlier release made.
_OLD = {"old": True}

#: Characters of a name. In UTF-8 each has at most 4 bytes, so that a name with a suffix fits into a file name
#: and an AMQP short string, which have at most 255 bytes.
_LONGEST_NAME = 60


def _plain(name: str, info: ValidationInfo) -> str:
    if "/" in name:
        raise ValueError("must not contain '/', which separates the parts of a baozi's id")
    if name.startswith("."):
        raise ValueError("must not start with '.', because it is used as a file name")
    # isprintable() first, because it is fast and each message has two names.
    controls = set() if name.isprintable() else set(filter(is_control, name))
    if info.context == _OLD:
        # Earlier releases allowed format characters (category Cf).
        controls = {letter for letter in controls if unicodedata.category(letter) != "Cf"}
    if controls:
        raise ValueError("must not contain control characters")
    return name


#: The name of a run or a producer.
Name = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME), AfterValidator(_plain)]
#: UTC, epoch seconds.
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
#: The number of a baozi in its order, from 0. 2**63 - 1 is the largest integer of a database column.
Number = Annotated[int, Field(ge=0, lt=2**63)]
#: The id of an order, a UUID4 in hexadecimal. Two orders with the same run and name have different ids.
OrderId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
#: How often the order has been opened, from 1. A producer that resumes its order opens it again.
Session = Annotated[int, Field(ge=1, lt=2**31)]
#: The first and the last of consecutive numbers.
Range = Annotated[list[Number], Field(min_length=2, max_length=2)]

#: The message header with the id of the order. Messages of other Celery clients do not have it.
ORDER_HEADER = "baozi-order"
#: The order id of a message without that header.
NO_ORDER = ""
#: The headers with the run (string), the producer (string), the number (integer) and the time (float) of a
#: message in an order.
RUN_HEADER, PRODUCER_HEADER = "baozi-run", "baozi-producer"
NUMBER_HEADER, MADE_AT_HEADER = "baozi-number", "baozi-made-at"
#: The largest number of ranges of unknown numbers in the closing of an order.
_MOST_RANGES = 10_000


class _Item(BaseModel):
    """The base of all models: the only argument of a message. Each has a run and a producer."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    called: ClassVar[str]
    """The name of this kind of item in error messages."""

    run: Name
    producer: Name

    @classmethod
    def parse(cls, data: object, old: bool = False) -> Self:
        """Check the only argument of a message, and return it as a model.

        Args:
            data: the argument.
            old: whether names with format characters are allowed, as :func:`checked_name` describes.

        Raises:
            NotABaozi: a field is missing, unknown or invalid. The message names the field.
        """
        try:
            return cls.model_validate(data, context=_OLD if old else None)
        except ValidationError as error:
            raise NotABaozi(_first_fault(cls.called, error)) from None

    @property
    def argument(self) -> dict[str, Any]:
        """The fields as the only argument of a message."""
        return self.__dict__.copy()  # the same as dict(self), and many times faster


class Baozi(_Item):
    """One baozi (a steamed bun): an item of work, identified by its run, producer and number."""

    called = "baozi"

    number: Number
    made_at: Time

    @property
    def id(self) -> str:
        """The unique id: ``run/producer/number``."""
        return f"{self.run}/{self.producer}/{self.number}"

    @property
    def task_id(self) -> str:
        """The Celery task id: the UUIDv5 of the id. A baozi that is put twice is the same task."""
        return str(uuid5(_NAMESPACE, self.id))

    @property
    def headers(self) -> dict[str, str | int | float]:
        """The same fields as message headers, for messages whose body has the arguments of a user's task."""
        return {
            RUN_HEADER: self.run,
            PRODUCER_HEADER: self.producer,
            NUMBER_HEADER: self.number,
            MADE_AT_HEADER: self.made_at,
        }

    @property
    def made_line(self) -> str:
        """The course's output line for a baozi that was made, in Chinese."""
        return f"{shown(self.producer)}生产了第{self.number}个包子"

    def eaten_line(self, consumer: str) -> str:
        """Return the course's output line for a baozi that ``consumer`` ate, in Chinese."""
        return f"{shown(consumer)}吃了{self.made_line}"


#: The largest number of baozi in one message: the same as the largest batch of a worker.
LONGEST_TRAY = 10_000


class Tray(_Item):
    """A tray: several baozi that one producer made at the same time and sends in one message."""

    called = "tray"

    numbers: Annotated[list[Number], Field(min_length=1, max_length=LONGEST_TRAY)]
    made_at: Time

    @property
    def baozi(self) -> list[Baozi]:
        """The baozi on the tray."""
        # Without validation: all fields have been checked.
        return [
            Baozi.model_construct(run=self.run, producer=self.producer, number=number, made_at=self.made_at)
            for number in self.numbers
        ]

    @property
    def task_id(self) -> str:
        """The Celery task id: a UUIDv5 of the numbers. A tray with the same baozi is the same task."""
        numbers = ",".join(map(str, self.numbers))
        return str(uuid5(_NAMESPACE, f"{self.run}/{self.producer}/tray/{numbers}"))


class Closing(_Item):
    """The last message of an order. It says which numbers the broker accepted.

    It replaces the ``None`` that ends the work in the course's multiprocessing examples. In an order with an
    id, the numbers in ``unknown`` have an unknown outcome, and all others below ``attempted`` were accepted.
    In an order without an id, which older releases send, the numbers below ``accepted`` were accepted, and
    the outcome of the others below ``attempted`` is unknown.
    """

    called = "order"

    accepted: Number
    """How many baozi were accepted."""
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
        """The fields as the only argument of a message. Workers of older releases accept it without an id."""
        return self.model_dump(exclude=None if self.order else {"order", "session", "unknown"})

    @property
    def task_id(self) -> str:
        """The Celery task id: a UUIDv5. An order closed twice with the same counts is the same task."""
        parts = [self.run, self.producer, "order", f"{self.accepted}/{self.attempted}"]
        if self.order:
            parts += [self.order, str(self.session)]
        return str(uuid5(_NAMESPACE, "/".join(parts)))


class Opening(_Item):
    """Says that a producer has resumed its order. The order is open until the next :class:`Closing`."""

    called = "opening"

    order: OrderId
    session: Session
    opened_at: Time

    @property
    def task_id(self) -> str:
        """The Celery task id: a UUIDv5 of the order and the session."""
        return str(uuid5(_NAMESPACE, f"{self.run}/{self.producer}/opening/{self.order}/{self.session}"))


def follower_id(task_id: str, number: int) -> str:
    """Return the Celery task id for a task that follows another one (``link`` or a chain).

    It is the same each time the first task is sent or executed, so that the follower is executed once.

    Args:
        task_id: the id of the first task.
        number: the position of this follower among all followers of the first task, from 0.
    """
    return str(uuid5(_NAMESPACE, f"{task_id}/follower/{number}"))


def new_order_id() -> str:
    """Return a new, random order id."""
    return uuid4().hex


_order_id: TypeAdapter[str] = TypeAdapter(OrderId)


def order_of(header: object) -> str:
    """Return the order id in a message's header :data:`ORDER_HEADER`, or :data:`NO_ORDER` for None.

    Raises:
        NotABaozi: the header is not an order id.
    """
    if header is None:
        return NO_ORDER
    try:
        return _order_id.validate_python(header, strict=True)
    except ValidationError:
        raise NotABaozi(
            "Not a baozi: its header {order_header} is not an order's id.", order_header=ORDER_HEADER
        ) from None


def checked_name(name: str, of: str, old: bool = False) -> str:
    """Return ``name`` if it is valid as the name of a run, a producer or an order.

    Args:
        name: the name.
        of: what it names ("run", "producer", "order"), for the error message.
        old: whether the name may be from an earlier release, which allowed format characters such as
            bidirectional controls and zero-width characters.

    Raises:
        UsageError: the name is empty, too long, or has a forbidden character.
    """
    try:
        fields = {"run": name, "producer": name, "number": 0, "made_at": 0.0}
        Baozi.model_validate(fields, context=_OLD if old else None)
    except ValidationError as error:
        raise UsageError("The {of}'s name {error}.", of=of, error=recognized(reason(error))) from None
    return name


def _first_fault(what: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    field = "".join(f"{_shown(str(part))} " for part in first["loc"])
    return f"Not a{'n' if what[0] == 'o' else ''} {what}: {field}{reason(error)}."


def _shown(field: str) -> str:
    """Return a field's name, escaped and shortened, for an error. Any client may have chosen the name."""
    if len(field) > _LONGEST_NAME:
        field = field[:_LONGEST_NAME] + "…"
    return field if shown(field) == field else repr(field)


#: Error texts by the type of Pydantic's error. All other errors have Pydantic's text.
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
    """Return the text of the first error. It continues a sentence that begins with the field's name."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] in _REASONS:
        return _REASONS[first["type"]]
    message = first["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "should be", 1).replace("Input must be", "must be", 1)
