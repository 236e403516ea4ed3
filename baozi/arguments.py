"""Checks the arguments of a message by the annotations of the task's function, with Pydantic.

Parameters with the annotation :class:`Key` or :class:`~baozi.transaction.Transaction` get their values from
the library. All others get the message's arguments.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from celery.utils.functional import head_from_fun
from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    ValidationError,
    validate_call,
)

from baozi.errors import BadArguments, UsageError
from baozi.model import reason
from baozi.shown import shown
from baozi.transaction import Transaction

#: The largest number of characters of a field's name in an error.
_LONGEST_FIELD = 200


class Key(str):
    """A parameter with this annotation receives the key under which the execution is recorded.

    A function without a transaction passes it on to other systems as an idempotency key. One that takes a
    list (``as_list``) receives the keys of its items in a parameter with the annotation ``list[Key]``.
    """

    __slots__ = ()


class Arguments:
    """The parameters of one function: those from its messages, and those that the library passes."""

    def __init__(self, name: str, function: Callable[..., Any], bound: bool, as_list: bool = False) -> None:
        """Read the parameters of ``function``.

        Args:
            name: the task's name, for error messages.
            function: the function.
            bound: whether its first parameter is the task itself.
            as_list: whether the function takes the arguments of several messages in one list. Each message
                then has one argument.

        Raises:
            UsageError: an annotation has an unknown name, Pydantic cannot check an annotation, the function
                takes ``*args``, or with ``as_list`` it does not take one list.
        """
        self._name = name
        try:
            hints = get_type_hints(function, include_extras=True)
        except Exception as error:  # evaluating an annotation runs the user's code
            raise UsageError(
                "{name}: its annotations cannot be read: {error}.", name=name, error=error
            ) from error
        parameters = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
        key: Any = list[Key] if as_list else Key
        given = {it.name: hints.get(it.name) for it in parameters if hints.get(it.name) in (key, Transaction)}
        self.transaction = next((it for it, kind in given.items() if kind is Transaction), None)
        """The parameter that receives the transaction, if there is one."""
        self.key = next((it for it, kind in given.items() if kind == key), None)
        """The parameter that receives the key, or the keys in a list, if there is one."""
        of_message = [it for it in parameters if it.name not in given]
        if as_list:
            hints |= _of_one_item(name, of_message, hints)
        if any(it.kind is it.VAR_POSITIONAL for it in of_message):
            raise UsageError(
                "{name}: a reliable task's function cannot take *args. Let it take a list.", name=name
            )
        self._names = [
            it.name for it in of_message if it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD)
        ]
        self._by_position = [it.name for it in of_message if it.kind is it.POSITIONAL_ONLY]
        self.count = len(self._names)
        """How many of a message's arguments can be positional."""
        self.header = head_from_fun(_taking(function.__name__, of_message, {}))
        """A function with the parameters of a message. Celery calls it to check a call before it is sent."""
        try:
            self._checked = validate_call(config=ConfigDict(arbitrary_types_allowed=False))(
                _taking(function.__name__, of_message, hints)
            )
        except (PydanticUserError, PydanticSchemaGenerationError) as error:
            raise UsageError(
                "{name}: an annotation cannot be checked: {problem}",
                name=name,
                problem=str(error).splitlines()[0],
            ) from error

    def checked(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a message's arguments, checked and converted by the annotations.

        Args:
            args: the message's positional arguments.
            kwargs: the message's named arguments.

        Raises:
            BadArguments: an argument is invalid. The error names the task and the field.
        """
        try:
            taken, named = self._checked(*args, **kwargs)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BadArguments(
                "{task}: {field} {problem}.",
                task=self._name,
                field=self._field(first["loc"]),
                problem=reason(error),
            ) from None
        # By name, so that the parameters for the library's values may be in any position.
        rest = len(self._by_position)
        return taken[:rest], {**dict(zip(self._names[rest:], taken[rest:], strict=False)), **named}

    def first(self, count: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Return the values of the first ``count`` parameters, with defaults.

        Args:
            count: how many parameters.
            args: positional arguments, as :meth:`checked` returns them.
            kwargs: named arguments, as :meth:`checked` returns them.
        """
        return [*args, *(kwargs[name] for name in self._names[len(args) :])][:count]

    def together(
        self, messages: Iterable[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for a function that takes a list.

        Args:
            messages: the positional and the named arguments of each message, as :meth:`checked` returns them.
        """
        items = [self.first(1, args, kwargs)[0] for args, kwargs in messages]
        return ((items,), {}) if self._by_position else ((), {self._names[0]: items})

    def _field(self, where: Sequence[int | str]) -> str:
        first, *rest = where
        if isinstance(first, int) and first < len(self._names):
            first = self._names[first]
        field = shown(".".join(map(str, (first, *rest))))
        return field if len(field) <= _LONGEST_FIELD else field[:_LONGEST_FIELD] + "…"


def _of_one_item(
    name: str, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the annotation of a message's one item, from the parameter that takes the list."""
    if len(parameters) == 1:
        (only,) = parameters
        kind = hints.get(only.name)
        by_position = only.kind in (only.POSITIONAL_ONLY, only.POSITIONAL_OR_KEYWORD)
        if by_position and only.default is only.empty and list in (kind, get_origin(kind)):
            return {only.name: get_args(kind)[0] if get_args(kind) else Any}
    raise UsageError(
        "{name}: with as_list its function must take one parameter that is annotated as a list and"
        " has no default, such as `orders: list[Order]`, and besides it at most a Transaction and a"
        " list[Key].",
        name=name,
    )


def _taking(
    name: str, parameters: Iterable[inspect.Parameter], hints: Mapping[str, Any]
) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return a function with these parameters and annotations that returns its arguments."""

    def take(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs

    # Any, because the type of a function does not allow new attributes.
    taking: Any = take
    taking.__name__ = name
    known = {it.name: hints[it.name] for it in parameters if it.name in hints}
    taking.__signature__ = inspect.Signature(
        [it.replace(annotation=known.get(it.name, it.empty)) for it in parameters]
    )
    taking.__annotations__ = known
    return take
