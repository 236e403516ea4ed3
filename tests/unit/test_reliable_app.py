"""What ``Reliable`` refuses, at the earliest moment, each in one sentence."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from operator import itemgetter
from typing import Any

import pytest
from celery import Celery, chord, group

from baozi import Key, Reliable, Retry, Transaction
from baozi.errors import BadArguments, BaoziError, NotJSON, UsageError
from baozi.execution import Raised, Work, run
from baozi.recording import Call
from baozi.reliable import _guarded
from baozi.task import ReliableTask


@pytest.fixture(autouse=True)
def no_other_apps() -> Iterator[None]:
    """Each test has a process that guards nothing."""
    before = dict(_guarded)
    _guarded.clear()
    yield
    _guarded.clear()
    _guarded.update(before)


@pytest.fixture
def app() -> Celery:
    return Celery("shop", broker="memory://", set_as_current=False)


@pytest.fixture
def reliable(app: Celery) -> Reliable:
    return Reliable(app, queue="shop", ledger="sqlite:///shop.sqlite3")


def charge(order: dict[str, Any], tx: Transaction) -> None:
    """A function as a user writes it."""


@pytest.mark.parametrize(
    ("ledger", "reason"),
    [
        ("sqlite://", "processes cannot share SQLite's memory"),
        ("sqlite:///:memory:", "processes cannot share SQLite's memory"),
        ("memory://", "neither sqlite nor postgresql"),
        ("mysql://u:secret@host/db", "neither sqlite nor postgresql"),
        ("nonsense", "not a database URL"),
    ],
)
def test_a_ledger_that_can_never_be_one_is_refused_without_its_password(
    app: Celery, ledger: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        Reliable(app, queue="shop", ledger=ledger)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("queue", ["", "amq.shop", "a b", "shop.*", "q" * 201, "a\nb"])
def test_a_queue_that_cannot_have_its_name_is_refused(app: Celery, queue: str) -> None:
    with pytest.raises(UsageError, match="queue's name"):
        Reliable(app, queue=queue)


def test_an_app_is_guarded_once(app: Celery, reliable: Reliable) -> None:
    with pytest.raises(UsageError, match="'shop' has a Reliable already"):
        Reliable(app, queue="another")
    assert reliable.app is app


@pytest.mark.usefixtures("reliable")
def test_two_apps_of_one_process_do_not_guard_one_queue() -> None:
    other = Celery("other", broker="memory://", set_as_current=False)
    with pytest.raises(UsageError, match="'shop' in this process guards the queue 'shop' already"):
        Reliable(other, queue="shop")
    assert Reliable(other, queue="another").topology.name == "another"


def test_an_app_whose_settings_were_read_is_refused(app: Celery) -> None:
    assert app.conf.task_default_queue == "celery"
    with pytest.raises(UsageError, match="directly after the app"):
        Reliable(app, queue="shop")


@pytest.mark.parametrize("function", [lambda order: order, partial(charge)])
def test_a_function_without_a_name_needs_one(reliable: Reliable, function: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="has no name that is allowed for a task"):
        reliable.task(function)


def test_a_name_is_given_once(reliable: Reliable) -> None:
    reliable.task(name="shop.charge")(charge)
    with pytest.raises(UsageError, match=r"Two reliable tasks have the name 'shop\.charge'"):
        reliable.task(name="shop.charge")(charge)


def takes_all(*everything: int) -> None:
    """Takes any number."""


def takes_what_is_not_there(order: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821  # the point
    """Has an annotation that nothing defines."""


def takes_what_cannot_be_checked(app: Celery) -> None:
    """Has an annotation that JSON cannot fill."""


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (takes_all, r"cannot take \*args"),
        (takes_what_is_not_there, "annotations cannot be read"),
        (takes_what_cannot_be_checked, "annotation cannot be checked"),
    ],
)
def test_parameters_that_no_message_can_fill_are_refused(
    reliable: Reliable, function: Callable[..., Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        reliable.task(name="shop.odd")(function)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch": 0}, "batch must be from 1 to 10000"),
        ({"batch": 10_001}, "batch must be from 1 to 10000"),
        ({"transaction_limit": 0}, "transaction_limit must be above 0"),
        ({"transaction_limit": 9_999}, "transaction_limit must be above 0 and at most 1800"),
        ({"key": lambda _a, _b: "x"}, "its key takes 2 arguments, and its messages have 1"),
        ({"base": object}, "subclass of ReliableTask"),
    ],
)
def test_an_option_out_of_range_is_refused(reliable: Reliable, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        reliable.task(name="shop.charge", **options)(charge)


def sum_of(orders: list[int]) -> None:
    """Takes a list as it must."""


def takes_lists(orders: list[int], amounts: list[int]) -> None:
    """Takes two of them."""


def takes_one_key(orders: list[int], key: Key) -> None:
    """Takes one key for several items."""


def takes_a_default(orders: list[int] = []) -> None:  # noqa: B006  # the point
    """Takes a list that nobody need send."""


def takes_by_name(*, orders: list[int]) -> None:
    """Takes a list that has no position."""


def takes_keys_only(keys: list[Key], tx: Transaction) -> None:
    """Takes nothing of a message."""


def takes_a_list_of_what_cannot_be_checked(orders: list[Celery]) -> None:
    """Takes items that JSON cannot fill."""


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        (sum_of, {"batch": 1}, "as_list needs a batch, for example batch=100"),
        (
            sum_of,
            {"bind": True},
            "as_list and bind cannot be used together",
        ),
        (sum_of, {"key": lambda _a, _b: "x"}, "its key takes 2 arguments, and its messages have 1"),
        (charge, {}, "must take one parameter that is annotated as a list"),
        (takes_all, {}, "must take one parameter that is annotated as a list"),
        (takes_lists, {}, "must take one parameter that is annotated as a list"),
        (takes_one_key, {}, "must take one parameter that is annotated as a list"),
        (takes_a_default, {}, "must take one parameter that is annotated as a list"),
        (takes_by_name, {}, "must take one parameter that is annotated as a list"),
        (takes_keys_only, {}, "must take one parameter that is annotated as a list"),
        (takes_a_list_of_what_cannot_be_checked, {}, "annotation cannot be checked"),
    ],
)
def test_a_list_that_no_batch_can_fill_is_refused(
    reliable: Reliable, function: Callable[..., Any], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        reliable.task(name="shop.odd", **{"batch": 10, "as_list": True, **options})(function)


def by_position(orders: list[int], /, tx: Transaction) -> None:
    """Takes its list by position."""


def of_anything(tx: Transaction, orders: list) -> None:  # type: ignore[type-arg]  # the point
    """Takes any items."""


@pytest.mark.parametrize("function", [sum_of, by_position, of_anything])
def test_a_message_of_a_task_with_a_list_has_one_item(
    reliable: Reliable, function: Callable[..., Any]
) -> None:
    task = reliable.task(name="shop.list", batch=10, as_list=True, key=str)(function)
    (work,) = works(task, 7)
    assert work.call.key == "7"
    with pytest.raises(BadArguments, match=r"shop\.list: orders is missing"):
        works(task)
    with pytest.raises(BadArguments, match=r"shop\.list: 1 is an argument too many"):
        works(task, 7, 8)
    if function is not of_anything:
        with pytest.raises(BadArguments, match=r"shop\.list: orders should be a valid integer"):
            works(task, [7])
    with pytest.raises(TypeError, match="argument"):
        task.delay(7, 8)


def works(task: ReliableTask, *args: Any, **headers: Any) -> list[Work]:
    return task.works(args, {}, "some-id", headers.get)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (lambda _: 7, "its key is a int, not a text"),
        (lambda _: None, "its key is a NoneType, not a text"),
        (lambda _: "", "has 0 characters"),
        (lambda _: "k" * 256, "has 256 characters"),
        (lambda _: "k" * 10_000, "has 10000 characters"),
        (lambda _: "a\x00b", "is not printable"),
        (lambda order: order["missing"], "its key cannot be made: KeyError"),
    ],
)
def test_a_key_that_is_none_is_refused_with_the_tasks_name(
    reliable: Reliable, key: Callable[..., Any], reason: str
) -> None:
    task = reliable.task(name="shop.charge", key=key)(charge)
    with pytest.raises(BadArguments, match=reason) as caught:
        works(task, {"id": "o-1"})
    assert str(caught.value).startswith("shop.charge: ")


def test_the_key_is_the_task_id_or_what_the_task_makes_of_its_first_arguments(reliable: Reliable) -> None:
    def mail(to: str, text: str = "hello", *, key: Key) -> None: ...

    plain = reliable.task(name="shop.plain")(mail)
    own = reliable.task(name="shop.own", key=lambda to, text: f"{to}/{text}")(mail)
    (by_id,), (by_own,) = works(plain, "you"), works(own, "you")
    assert (by_id.call.key, by_own.call.key) == ("some-id", "you/hello")
    assert own.given(["k"], None) == {"key": Key("k")}


class Product(StrEnum):
    """A text of another class."""

    BOOK = "book"


@pytest.mark.parametrize(
    ("key", "argument", "expected"),
    [
        (str, 7, "7"),
        (itemgetter("id"), {"id": "o-1"}, "o-1"),
        (lambda *all_: str(len(all_)), {}, "2"),
        (lambda order: Product[order], "BOOK", "book"),
    ],
)
def test_a_key_may_come_from_any_callable_and_be_any_text(
    reliable: Reliable, key: Callable[..., str], argument: object, expected: str
) -> None:
    def mail(order: object, text: str = "hello") -> None: ...

    task = reliable.task(name="shop.mail", key=key)(mail)
    (work,) = works(task, argument)
    assert (work.call.key, type(work.call.key)) == (expected, str)


def test_headers_of_an_order_that_are_no_identity_are_refused(reliable: Reliable) -> None:
    task = reliable.task(name="shop.charge")(charge)
    with pytest.raises(BaoziError, match="number"):
        works(task, {"id": "o-1"}, **{"baozi-run": "r", "baozi-producer": "p", "baozi-number": -1})


@pytest.mark.parametrize("result", [{1, 2}, object(), float])
def test_a_result_that_is_not_json_fails_the_task(reliable: Reliable, result: object) -> None:
    def give() -> object:
        return result

    task = reliable.task(name="shop.give")(give)
    with pytest.raises(Raised) as caught:
        run([Work(task, Call("shop.give", "k"), (), {})], None)
    assert isinstance(caught.value.error, NotJSON)
    assert "shop.give returned a" in str(caught.value.error)


def test_arguments_that_are_not_json_are_refused_where_they_are_sent(reliable: Reliable) -> None:
    task = reliable.task(name="shop.charge")(charge)
    with pytest.raises(NotJSON, match=r"The arguments of shop\.charge are not JSON"):
        task.delay(object())


def test_arguments_that_do_not_fit_are_refused_where_they_are_sent(reliable: Reliable) -> None:
    task = reliable.task(name="shop.charge")(charge)
    with pytest.raises(TypeError, match="charge"):
        task.delay()
    with pytest.raises(TypeError, match="charge"):
        task.delay({}, "a transaction is nothing to send")


def test_a_chord_of_reliable_tasks_says_that_it_cannot_work(app: Celery, reliable: Reliable) -> None:
    app.conf["result_backend"] = "cache+memory://"  # without any, Celery says so
    task = reliable.task(name="shop.charge")(charge)
    with pytest.raises(UsageError, match="cannot be in the header of a chord"):
        chord(group(task.s({}), task.s({})))(task.s())


def test_a_task_that_is_called_is_its_function(reliable: Reliable) -> None:
    def double(number: int) -> int:
        return 2 * number

    task = reliable.task(name="shop.double", retry=Retry(on=(ValueError,)))(double)
    assert task(21) == 42
