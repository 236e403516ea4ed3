"""What becomes of each message of a batch: Celery's own tracer and a real ledger, in this process."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from celery import Celery, signals
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded
from celery.worker import state
from kombu.utils.json import dumps, loads
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from baozi import Key, Reliable, Transaction
from baozi import reliable as reliable_module
from baozi.errors import BadResults
from baozi.ledger_schema import done
from baozi.model import Baozi
from baozi.task import ReliableTask
from baozi.worker import batch_execution
from baozi.worker.batch_execution import Answer, Item, execute_batch
from tests.integration.ledgers import record_eaten

table = Table("effects", MetaData(), Column("number", Integer))

HOSTNAME = "小明@here"


@pytest.fixture
def reliable(tmp_path: Path) -> Iterator[Reliable]:
    """The guarantee of an app whose worker this process is."""
    guarded, at_work = dict(reliable_module._guarded), list(reliable_module._of_worker)
    app = Celery("shop", broker="memory://", set_as_current=False)
    made = Reliable(app, queue="batch-execution", ledger=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    made.work()
    ledger = made.open_ledger().open()
    with ledger.recording("小红", "there") as recording:
        table.create(recording.connection)
    yield made
    ledger.close()
    reliable_module._guarded.clear()
    reliable_module._guarded.update(guarded)
    reliable_module._of_worker[:] = at_work


def item(task: ReliableTask, *args: object, id_: object = None, **headers: object) -> Item:
    """A message, as a Celery client sends it."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    id_ = f"id-{args[0]}" if id_ is None else id_
    return Item(dumps([args, {}, embed]), {"task": task.name, "id": id_, **headers}, {})


def execute(task: ReliableTask, *items: Item) -> Answer:
    return execute_batch(str(task.name), HOSTNAME, items)


def finished(answer: Answer) -> list[int]:
    return [it.number for it in answer.finished]


def effects(reliable: Reliable) -> list[int]:
    with reliable.open_ledger().reading() as connection:
        return list(connection.execute(select(table.c.number).order_by(table.c.number)).scalars())


def recorded(reliable: Reliable, task: ReliableTask) -> set[str]:
    """The keys under which the ledger has executions of ``task``."""
    return set(results(reliable, task))


def results(reliable: Reliable, task: ReliableTask) -> dict[str, str | None]:
    """The results of ``task`` that the ledger has, by key."""
    with reliable.open_ledger().reading() as connection:
        found = connection.execute(select(done.c.key, done.c.result).where(done.c.task == task.name))
        return {row.key: row.result for row in found}


@pytest.fixture
def limited() -> Iterator[None]:
    """Have this process take the soft time limit as a pool process does: a signal's handler raises it."""

    def come(_number: int, _frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, come)
    yield
    signal.signal(signal.SIGALRM, before)


def hang() -> None:
    """Take longer than the soft time limit, which comes now, however busy the machine is."""
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(60)  # the fault itself


def with_transaction(do: Callable[[int], object]) -> Callable[..., None]:
    def function(number: int, tx: Transaction) -> None:
        tx.execute(insert(table).values(number=number))
        do(number)

    return function


def without_transaction(do: Callable[[int], object]) -> Callable[..., None]:
    def function(number: int) -> None:
        do(number)

    return function


KINDS = pytest.mark.parametrize("kind", [with_transaction, without_transaction])


@KINDS
def test_one_that_fails_is_left_and_the_others_are_recorded(reliable: Reliable, kind: Any) -> None:
    def fail(number: int) -> None:
        if number == 1:
            raise ValueError("1 is no number")

    task = reliable.task(name="shop.count", batch=10)(kind(fail))
    answer = execute(task, *(item(task, number) for number in range(3)))
    assert (finished(answer), answer.failed) == ([0, 2], [1])
    assert recorded(reliable, task) == {"id-0", "id-2"}
    assert effects(reliable) == ([0, 2] if kind is with_transaction else [])


@pytest.mark.usefixtures("limited")
@KINDS
def test_after_the_soft_time_limit_the_rest_is_left_and_what_was_executed_is_recorded(
    reliable: Reliable, kind: Any
) -> None:
    ran = []

    def hang_at_2(number: int) -> None:
        ran.append(number)
        if number == 2:
            hang()

    task = reliable.task(name="shop.count", batch=10)(kind(hang_at_2))
    answer = execute(task, *(item(task, number) for number in range(5)))
    assert ran == [0, 1, 2]
    assert (finished(answer), answer.failed) == ([0, 1], [2, 3, 4])
    assert recorded(reliable, task) == {"id-0", "id-1"}
    assert effects(reliable) == ([0, 1] if kind is with_transaction else [])


@pytest.mark.usefixtures("limited")
@KINDS
def test_a_function_that_hides_the_soft_time_limit_is_finished_and_the_rest_is_left(
    reliable: Reliable, kind: Any
) -> None:
    ran = []

    def hide(number: int) -> None:
        ran.append(number)
        if number == 1:
            with pytest.raises(SoftTimeLimitExceeded):
                hang()
            task.soft_time_limit = 0  # as if so much time had passed

    task: Any = reliable.task(name="shop.count", batch=10)(kind(hide))
    answer = execute(task, *(item(task, number) for number in range(4)))
    assert ran == [0, 1]
    assert (finished(answer), answer.failed) == ([0, 1], [2, 3])
    assert recorded(reliable, task) == {"id-0", "id-1"}


@KINDS
def test_a_batch_whose_time_is_over_begins_no_other_message_and_records_what_ran(
    reliable: Reliable, kind: Any
) -> None:
    ran = []

    def slow_at_1(number: int) -> None:
        ran.append(number)
        if number == 1:
            time.sleep(0.06)

    task = reliable.task(name="shop.count")(kind(slow_at_1))
    items = [item(task, 0), item(task, "no number"), *(item(task, number) for number in range(1, 5))]
    answer = execute_batch("shop.count", HOSTNAME, items, longest_s=0.05)
    # On a busy machine the first has taken all the time.
    assert ran in ([0, 1], [0])
    done = {0: 0, 1: 2}
    assert (finished(answer), answer.failed) == ([done[number] for number in ran], [1])
    assert answer.not_begun == [2, 3, 4, 5][len(ran) - 1 :]
    assert recorded(reliable, task) == {f"id-{number}" for number in ran}
    assert effects(reliable) == (ran if kind is with_transaction else [])


def test_a_batch_begins_at_least_one_message(reliable: Reliable) -> None:
    task = reliable.task(name="shop.count")(without_transaction(abs))
    answer = execute_batch("shop.count", HOSTNAME, [item(task, 0), item(task, 1)], longest_s=0)
    assert (finished(answer), answer.not_begun) == ([0], [1])


def test_an_execution_that_could_not_be_recorded_is_not_finished(reliable: Reliable) -> None:
    def slow(number: int) -> None:
        if number == 1:
            time.sleep(0.1)  # so long that what has run is recorded before the batch ends

    task = reliable.task(name="shop.count", batch=10)(without_transaction(slow))
    taken = Baozi(run="r", producer="p", number=7, made_at=1.0)
    record_eaten(reliable.open_ledger(), taken, "小红", "there", 1.0, "0" * 8 + "-0000-4000-8000-" + "0" * 12)
    headers = {"baozi-run": "r", "baozi-producer": "p", "baozi-number": 7, "baozi-made-at": 1.0}
    answer = execute(task, item(task, 0), item(task, 1, **headers), item(task, 2))
    assert (finished(answer), answer.failed) == ([], [0, 1, 2])
    assert recorded(reliable, task) <= {"id-0"}, "on a busy machine the first is recorded alone"


def test_one_that_did_not_begin_is_not_recorded_nor_is_another_of_its_key(reliable: Reliable) -> None:
    class Choosy(ReliableTask):
        """A task of a user, with a hook of Celery's that fails."""

        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            super().before_start(task_id, args, kwargs)
            if task_id == "bad":
                raise ValueError("not today")

    task = reliable.task(name="shop.count", batch=10, base=Choosy, key=str)(with_transaction(abs))
    answer = execute(task, item(task, 0), item(task, 1, id_="bad"), item(task, 1), item(task, 2))
    assert (finished(answer), answer.failed) == ([0, 3], [1, 2])
    assert recorded(reliable, task) == {"0", "2"}
    assert effects(reliable) == [0, 2]


class Row(BaseModel):
    """What a message of a task with a list carries."""

    number: int


class Lists:
    """The functions of tasks that take a list, and the lists that they got."""

    def __init__(self, do: Callable[[list[int]], Any] = lambda _: None) -> None:
        self.got: list[tuple[list[int], list[Key]]] = []
        self._do = do

    def with_transaction(self, rows: list[Row], keys: list[Key], tx: Transaction) -> Any:
        for row in rows:
            tx.execute(insert(table).values(number=row.number))
        return self._ran(rows, keys)

    def without_transaction(self, rows: list[Row], keys: list[Key]) -> Any:
        return self._ran(rows, keys)

    def _ran(self, rows: list[Row], keys: list[Key]) -> Any:
        self.got.append(([row.number for row in rows], keys))
        return self._do([row.number for row in rows])


LISTS = pytest.mark.parametrize("kind", ["with_transaction", "without_transaction"])


def list_task(reliable: Reliable, lists: Lists, kind: str, **options: Any) -> ReliableTask:
    return reliable.task(
        name="shop.index", batch=10, as_list=True, key=lambda row: f"row-{row.number}", **options
    )(getattr(lists, kind))


def row(task: ReliableTask, number: int, **more: Any) -> Item:
    return item(task, {"number": number}, id_=f"id-{number}", **more)


@LISTS
def test_a_function_gets_the_list_of_the_items_and_keys_and_each_message_its_own_result(
    reliable: Reliable, kind: str
) -> None:
    lists = Lists(lambda numbers: [{"twice": 2 * number} for number in numbers])
    task = list_task(reliable, lists, kind)
    answer = execute(task, row(task, 3), row(task, 1), row(task, 2))
    assert lists.got == [([3, 1, 2], ["row-3", "row-1", "row-2"])]
    assert all(type(key) is Key for key in lists.got[0][1])
    assert answer.failed == []
    assert [it.result for it in answer.finished] == [str({"twice": 2 * number}) for number in (3, 1, 2)]
    assert results(reliable, task) == {f"row-{number}": f'{{"twice": {2 * number}}}' for number in (1, 2, 3)}
    assert effects(reliable) == ([1, 2, 3] if kind == "with_transaction" else [])


@LISTS
def test_items_that_are_done_are_not_in_the_list_and_a_key_is_in_it_once(
    reliable: Reliable, kind: str
) -> None:
    lists = Lists(lambda numbers: [-number for number in numbers])
    task = list_task(reliable, lists, kind)
    execute(task, row(task, 1))
    answer = execute(task, row(task, 2), row(task, 1), row(task, 2), row(task, 3))
    execute(task, row(task, 3))
    assert [numbers for numbers, _ in lists.got] == [[1], [2, 3]]
    assert [it.result for it in answer.finished] == ["-2", "-1", "-2", "-3"]
    assert effects(reliable) == ([1, 2, 3] if kind == "with_transaction" else [])
    with reliable.open_ledger().reading() as connection:
        counted = connection.execute(select(done.c.key, done.c.deliveries)).all()
    assert {row.key: row.deliveries for row in counted} == {"row-1": 2, "row-2": 2, "row-3": 2}


def fail_at_2(numbers: list[int]) -> None:
    if 2 in numbers:
        raise ValueError("2 is no number")


@LISTS
@pytest.mark.parametrize(
    "do",
    [
        fail_at_2,
        lambda numbers: [object() if number == 2 else number for number in numbers],
        lambda numbers: [number for number in numbers if number != 2],
        lambda numbers: None if 2 not in numbers else 2,
        lambda numbers: (number for number in numbers),
    ],
)
def test_a_function_that_fails_leaves_all_of_its_list_and_nothing_behind(
    reliable: Reliable, kind: str, do: Callable[[list[int]], Any]
) -> None:
    task = list_task(reliable, Lists(do), kind)
    answer = execute(task, row(task, 1), row(task, 2), row(task, 3))
    assert (finished(answer), answer.failed) == ([], [0, 1, 2])
    assert recorded(reliable, task) == set()
    assert effects(reliable) == []


@LISTS
def test_an_item_that_does_not_fit_is_left_and_the_others_are_a_list(reliable: Reliable, kind: str) -> None:
    lists = Lists()
    task = list_task(reliable, lists, kind)
    answer = execute(task, row(task, 1), item(task, {"number": "two"}), item(task, 1, 2), row(task, 4))
    assert [numbers for numbers, _ in lists.got] == [[1, 4]]
    assert (finished(answer), answer.failed) == ([0, 3], [1, 2])


@LISTS
def test_each_message_of_a_list_has_its_signals(reliable: Reliable, kind: str) -> None:
    heard = []

    def hear(signal_: str) -> Callable[..., None]:
        return lambda **about: heard.append((signal_, about.get("task_id"), about.get("result")))

    task = list_task(reliable, Lists(lambda numbers: [10 * number for number in numbers]), kind)
    receivers = {name: hear(name) for name in ("task_prerun", "task_success", "task_postrun")}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver, sender=task)
    execute(task, row(task, 1), row(task, 2))
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver, sender=task)
    assert heard == [
        told
        for number in (1, 2)
        for told in [
            ("task_prerun", f"id-{number}", None),
            ("task_success", None, 10 * number),
            ("task_postrun", f"id-{number}", None),
        ]
    ]


def test_a_function_without_a_transaction_is_recorded_as_soon_as_it_returns(
    reliable: Reliable,
) -> None:
    """Or it would run again if the process was killed in a receiver of a signal."""
    before = []

    def look(**_: object) -> None:
        before.append(recorded(reliable, task))

    task = list_task(reliable, Lists(), "without_transaction")
    signals.task_prerun.connect(look, sender=task)
    execute(task, row(task, 1), row(task, 2))
    signals.task_prerun.disconnect(look, sender=task)
    assert before == [{"row-1", "row-2"}] * 2


def test_a_message_that_fails_beside_the_function_takes_the_sql_of_its_list_back(reliable: Reliable) -> None:
    class Choosy(ReliableTask):
        """A task of a user, with a hook of Celery's that fails."""

        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            super().before_start(task_id, args, kwargs)
            if task_id == "id-2":
                raise ValueError("not today")

    task = list_task(reliable, Lists(), "with_transaction", base=Choosy)
    answer = execute(task, row(task, 1), row(task, 2))
    assert (finished(answer), answer.failed) == ([], [0, 1])
    assert (recorded(reliable, task), effects(reliable)) == (set(), [])


@LISTS
def test_one_that_is_revoked_after_its_list_has_run_is_done(reliable: Reliable, kind: str) -> None:
    task = list_task(reliable, Lists(lambda _: state.revoked.add("id-2")), kind)
    answer = execute(task, row(task, 1), row(task, 2))
    state.revoked.discard("id-2")
    assert (finished(answer), answer.failed) == ([0, 1], [])


@pytest.mark.usefixtures("limited")
@LISTS
def test_a_list_that_takes_too_long_is_left_and_has_no_effect(reliable: Reliable, kind: str) -> None:
    task = list_task(reliable, Lists(lambda _: hang()), kind)
    answer = execute(task, row(task, 1), row(task, 2))
    assert (finished(answer), answer.failed) == ([], [0, 1])
    assert (recorded(reliable, task), effects(reliable)) == (set(), [])


@LISTS
def test_a_single_message_is_a_list_of_one_item(reliable: Reliable, kind: str) -> None:
    lists = Lists(lambda numbers: [10 * number for number in numbers])
    task = list_task(reliable, lists, kind)
    for _ in range(2):  # the second is a redelivery
        assert task.apply(({"number": 7},), task_id="one").get() == 70
    assert lists.got == [([7], ["row-7"])]
    assert recorded(reliable, task) == {"row-7"}


@LISTS
@pytest.mark.parametrize(
    ("returned", "what"),
    [([1, 2], "list of 2"), ([], "list of 0"), ({"a": 1}, "dict"), ("one", "str"), (7, "int")],
)
def test_results_that_are_not_one_for_each_item_fail_with_one_sentence(
    reliable: Reliable, kind: str, returned: object, what: str
) -> None:
    task = list_task(reliable, Lists(lambda _: returned), kind)
    with pytest.raises(BadResults) as caught:
        task.apply(({"number": 7},)).get()
    assert str(caught.value) == (
        "shop.index must return None or a list with one result for each of its 1 items, and returned a"
        f" {what}."
    )
    assert (recorded(reliable, task), effects(reliable)) == (set(), [])


def test_a_task_with_a_list_that_is_called_is_its_function(reliable: Reliable) -> None:
    task = reliable.task(name="shop.sum", batch=10, as_list=True)(sums)
    assert task([1, 2, 3]) == [1, 3, 6]


def sums(numbers: list[int]) -> list[int]:
    return [sum(numbers[: place + 1]) for place in range(len(numbers))]


@pytest.mark.parametrize("own", [{}, {"baozi-run": "r", "x-trace": "1"}, {"headers": {"tenant": "a"}}])
def test_the_sender_s_own_headers_are_what_celery_takes_for_them(own: dict[str, Any]) -> None:
    headers = {"task": "shop.charge", "id": "1", "lang": "py", "retries": 0, "origin": "1@here", **own}
    in_batch = Context({"headers": batch_execution._custom_headers(headers), **headers})
    assert in_batch.headers == (Context(headers).headers or {})


@pytest.mark.parametrize(
    "body", ["[[1], {}, null]", '[[{"__type__": "uuid", "__value__": {"hex": "0", "version": 4}}]]']
)
def test_a_body_is_read_as_celery_reads_it(body: str) -> None:
    def read(by: Callable[[Any], Any]) -> Any:
        try:
            return by(body.encode())
        except ValueError as error:
            return str(error)

    assert read(batch_execution._loads) == read(loads)
