"""What becomes of each message of a batch: Celery's own tracer and a real ledger, in this process."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu.utils.json import dumps
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from baozi import Reliable, Transaction
from baozi import reliable as reliable_module
from baozi.ledger_schema import done
from baozi.model import Baozi
from baozi.task import ReliableTask
from baozi.worker.batch_execution import Answer, Item, execute_batch
from tests.integration.ledgers import record_eaten

table = Table("effects", MetaData(), Column("number", Integer))

HOSTNAME = "小明@here"


@pytest.fixture
def reliable(tmp_path: Path) -> Iterator[Reliable]:
    """The guarantee of an app whose worker this process is."""
    guarded, at_work = dict(reliable_module._guarded), list(reliable_module._at_work)
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
    reliable_module._at_work[:] = at_work


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
    with reliable.open_ledger().reading() as connection:
        return set(connection.execute(select(done.c.key).where(done.c.task == task.name)).scalars())


@contextmanager
def limit_after(seconds: float) -> Iterator[None]:
    """Have the soft time limit come once, as a pool process has it: by a signal."""

    def come(_number: int, _frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, come)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
    assert (finished(answer), answer.left) == ([0, 2], [1])
    assert recorded(reliable, task) == {"id-0", "id-2"}
    assert effects(reliable) == ([0, 2] if kind is with_transaction else [])


@KINDS
def test_after_the_soft_time_limit_the_rest_is_left_and_what_was_executed_is_recorded(
    reliable: Reliable, kind: Any
) -> None:
    ran = []

    def hang(number: int) -> None:
        ran.append(number)
        if number == 2:
            time.sleep(60)  # the fault itself: the function never ends

    task = reliable.task(name="shop.count", batch=10)(kind(hang))
    with limit_after(0.3):
        answer = execute(task, *(item(task, number) for number in range(5)))
    assert ran == [0, 1, 2]
    assert (finished(answer), answer.left) == ([0, 1], [2, 3, 4])
    assert recorded(reliable, task) == {"id-0", "id-1"}
    assert effects(reliable) == ([0, 1] if kind is with_transaction else [])


@KINDS
def test_a_function_that_hides_the_soft_time_limit_is_finished_and_the_rest_is_left(
    reliable: Reliable, kind: Any
) -> None:
    ran = []

    def hide(number: int) -> None:
        ran.append(number)
        if number == 1:
            with pytest.raises(SoftTimeLimitExceeded):
                time.sleep(60)

    task = reliable.task(name="shop.count", batch=10, soft_time_limit=0.3)(kind(hide))
    with limit_after(0.4):
        answer = execute(task, *(item(task, number) for number in range(4)))
    assert ran == [0, 1]
    assert (finished(answer), answer.left) == ([0, 1], [2, 3])
    assert recorded(reliable, task) == {"id-0", "id-1"}


def test_what_could_not_be_recorded_is_not_finished(reliable: Reliable) -> None:
    def slow(number: int) -> None:
        if number == 1:
            time.sleep(0.1)  # so long that what has run is recorded before the batch ends

    task = reliable.task(name="shop.count", batch=10)(without_transaction(slow))
    taken = Baozi(run="r", producer="p", number=7, made_at=1.0)
    record_eaten(reliable.open_ledger(), taken, "小红", "there", 1.0, "0" * 8 + "-0000-4000-8000-" + "0" * 12)
    headers = {"baozi-run": "r", "baozi-producer": "p", "baozi-number": 7, "baozi-made-at": 1.0}
    answer = execute(task, item(task, 0), item(task, 1, **headers), item(task, 2))
    assert recorded(reliable, task) == set()
    assert (finished(answer), answer.left) == ([], [0, 1, 2])


def test_one_that_did_not_begin_is_not_recorded_nor_is_another_of_its_key(reliable: Reliable) -> None:
    class Choosy(ReliableTask):
        """A task of a user, with a hook of Celery's that fails."""

        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            super().before_start(task_id, args, kwargs)
            if task_id == "bad":
                raise ValueError("not today")

    task = reliable.task(name="shop.count", batch=10, base=Choosy, key=str)(with_transaction(abs))
    answer = execute(task, item(task, 0), item(task, 1, id_="bad"), item(task, 1), item(task, 2))
    assert (finished(answer), answer.left) == ([0, 3], [1, 2])
    assert recorded(reliable, task) == {"0", "2"}
    assert effects(reliable) == [0, 2]
