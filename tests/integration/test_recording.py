"""A recording claims each key of a task once, and commits the claim together with the task's own SQL."""

import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, event, make_url, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from baozi.audit import audit
from baozi.errors import LedgerAway, NameInUse
from baozi.execution import retry_while_ledger_away
from baozi.ledger import Ledger
from baozi.ledger_schema import done, refused
from baozi.ledger_statements import PostgreSQL
from baozi.recording import Call, Done, Recording
from tests.integration import previous_release
from tests.integration.ledgers import (
    RUN,
    baozi,
    child,
    eat_as_before,
    only,
    rows,
    said,
)
from tests.waiting import wait_until

pytest_plugins = ["tests.integration.postgresql"]

ORDER, OTHER = "a" * 32, "b" * 32
CLAIMER = """
from baozi.recording import Call
with ledger.recording("小明", "there") as recording:
    (earlier,) = recording.claim([Call("shop.charge", "o-1", baozi(0))])
    if earlier is None:
        recording.finish([(Call("shop.charge", "o-1", baozi(0)), '"second"', 9.0)])
print(earlier)
"""
KILLED = """
from sqlalchemy import text
from baozi.recording import Call
call = Call("shop.charge", "o-1", baozi(0))
with ledger.recording("小明", "there") as recording:
    recording.claim([call])
    if sys.argv[1] == "after the claim": print("here", flush=True); time.sleep(60)
    recording.connection.execute(text("INSERT INTO payments VALUES (1)"))
    if sys.argv[1] == "after the task's SQL": print("here", flush=True); time.sleep(60)
    recording.finish([(call, '"paid"', 5.0)])
    if sys.argv[1] == "before the commit": print("here", flush=True); time.sleep(60)
print("here", flush=True); time.sleep(60)
"""
IMPORTS = "def baozi(number):\n    return Baozi(run='course', producer='alex', number=number, made_at=1.0)\n"


def call(key: str = "o-1", number: int | None = None, order: str = "", task: str = "shop.charge") -> Call:
    return Call(task, key, None if number is None else baozi(number), order)


def done_rows(ledger: Ledger) -> dict[str, tuple[str | None, int]]:
    with ledger.reading() as connection:
        return {row.key: (row.result, row.deliveries) for row in connection.execute(select(done))}


def execute(ledger: Ledger, *calls: Call, result: str | None = '"paid"') -> list[Done | None]:
    with ledger.recording("小红", "here") as recording:
        answers = recording.claim(calls)
        recording.finish(
            [(one, result, 5.0) for one, answer in zip(calls, answers, strict=True) if answer is None]
        )
    return answers


def deliveries(ledger: Ledger) -> dict[int, object]:
    return {int(str(row["number"])): row["deliveries"] for row in rows(ledger)}


def test_an_executed_task_is_a_row_with_its_result(ledger: Ledger) -> None:
    assert execute(ledger, call(number=0)) == [None]
    with ledger.reading() as connection:
        (row,) = connection.execute(select(done)).all()
    assert tuple(row) == ("shop.charge", "o-1", 5.0, "小红", "here", 1, '"paid"')
    (eaten,) = rows(ledger)
    assert (eaten["consumer"], eaten["machine"], eaten["eaten_at"], eaten["order_id"]) == (
        "小红",
        "here",
        5.0,
        "",
    )


@pytest.mark.parametrize(
    "result", [None, "0", '""', '{"sum": 42}', '"包子"', '"\\u0000"', "[" + "1," * 9999 + "1]"]
)
def test_a_second_delivery_gets_the_result_of_the_first_and_is_counted(
    ledger: Ledger, result: str | None
) -> None:
    execute(ledger, call(number=0), result=result)
    assert execute(ledger, call(number=0), result='"another"') == [Done(result)]
    assert ledger.recorded([call(number=0)], "小明", "there") == [Done(result)]
    assert done_rows(ledger) == {"o-1": (result, 3)}
    assert deliveries(ledger) == {0: 3}


def test_the_same_key_of_another_task_is_another_call(ledger: Ledger) -> None:
    assert execute(ledger, call(task="a"), call(task="b")) == [None, None]
    assert execute(ledger, call(task="a"), call(task="c")) == [Done('"paid"'), None]


def test_asking_for_a_call_that_is_not_done_records_nothing(ledger: Ledger) -> None:
    assert ledger.recorded([call("a", 0), call("b"), call("a", 0)], "小红", "here") == [None, None, None]
    assert (done_rows(ledger), rows(ledger)) == ({}, [])
    assert ledger.recorded([], "小红", "here") == []


@pytest.mark.parametrize("count", [1, 2, 100, 1500])
def test_of_a_batch_only_the_new_ones_are_to_be_executed(ledger: Ledger, count: int) -> None:
    calls = [call(f"o-{number}", number) for number in range(count)]
    execute(ledger, *calls[::2])
    expected = [None if number % 2 else Done('"paid"') for number in range(count)]
    assert ledger.recorded(calls, "小红", "here") == expected
    assert execute(ledger, *reversed(calls)) == expected[::-1]
    assert deliveries(ledger) == {number: 1 if number % 2 else 3 for number in range(count)}


@pytest.mark.parametrize("count", [1, 200])
def test_a_new_batch_takes_few_statements_whatever_its_size(ledger: Ledger, count: int) -> None:
    executed: list[str] = []
    event.listen(ledger._engine, "before_cursor_execute", lambda _on, _at, sql, *_: executed.append(sql))
    calls = [call(f"o-{number}", number) for number in range(count)]
    assert ledger.recorded(calls, "小红", "here") == [None] * count
    assert len(executed) == 1
    executed.clear()
    with ledger.recording("小红", "here") as recording:
        assert recording.record([(one, None, 5.0) for one in calls]) == [None] * count
    # The transaction's beginning and one insert. On SQLite one insert for each table, within a savepoint.
    assert len(executed) == (2 if ledger._engine.dialect.name == "postgresql" else 5), executed


def test_a_batch_keeps_the_values_of_each_row_whether_they_differ_or_not(ledger: Ledger) -> None:
    execute(ledger, call("o-1", 1, ORDER), call("p"))
    results: list[tuple[Call, str | None, float]] = [
        (call("o-1", 1, ORDER), "1", 5.5),
        (call("o-2", 2, ORDER), None, 6),
        (call("o-3", 3), "3", 7.5),
        (call("p"), "4", 8.5),
        (call("p", task="other"), "5", 9.5),
        (call("o-2", 2, ORDER), "6", 10.5),
    ]
    with ledger.recording("小红", "here") as recording:
        answers = recording.record(results)
    assert answers == [Done('"paid"'), None, None, Done('"paid"'), None, Done(None)]
    with ledger.reading() as connection:
        found = connection.execute(
            select(done.c.task, done.c.key, done.c.result, done.c.done_at, done.c.deliveries)
        )
        assert {tuple(row) for row in found} == {
            ("shop.charge", "o-1", '"paid"', 5.0, 2),
            ("shop.charge", "o-2", None, 6.0, 2),
            ("shop.charge", "o-3", "3", 7.5, 1),
            ("shop.charge", "p", '"paid"', 5.0, 2),
            ("other", "p", "5", 9.5, 1),
        }
    assert [(row["number"], row["deliveries"], row["order_id"]) for row in rows(ledger)] == [
        (1, 2, ORDER),
        (2, 2, ORDER),
        (3, 1, ""),
    ]


def test_a_key_twice_in_a_batch_is_executed_once_and_each_baozi_is_recorded(ledger: Ledger) -> None:
    assert execute(ledger, call("k", 0), call("k", 1), call("k", 0), call("l", 2)) == [
        None,
        Done(None),
        Done(None),
        None,
    ]
    assert done_rows(ledger) == {"k": ('"paid"', 3), "l": ('"paid"', 1)}
    assert deliveries(ledger) == {0: 2, 1: 1, 2: 1}


def test_a_key_that_another_message_had_has_one_effect_and_both_count_as_eaten(ledger: Ledger) -> None:
    execute(ledger, call("k", 0))
    assert execute(ledger, call("k", 1)) == [Done('"paid"')]
    assert ledger.recorded([call("k", 2)], "小红", "here") == [Done('"paid"')]
    assert sorted(deliveries(ledger)) == [0, 1, 2], "the audit would call them lost"


def test_a_baozi_that_an_older_release_ate_is_done_and_counted(ledger: Ledger) -> None:
    eat_as_before(ledger, 0, 1)
    assert ledger.recorded([call("a", 0)], "小红", "here") == [Done(None)]
    assert execute(ledger, call("b", 1), call("c", 2)) == [Done(None), None]
    assert deliveries(ledger) == {0: 2, 1: 2, 2: 1}


def test_the_audit_counts_deliveries_that_an_older_worker_counted(ledger: Ledger) -> None:
    execute(ledger, call(number=0))
    eat_as_before(ledger, 0)
    assert only(audit(ledger, RUN)).duplicated == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_number_of_another_order_is_refused_and_nothing_else_is_recorded(
    ledger: Ledger, count: int
) -> None:
    execute(ledger, call("first", 0, ORDER))
    calls = [call(f"o-{number}", number, OTHER) for number in range(count)]
    with pytest.raises(NameInUse, match="course/alex/0 of order b"):
        execute(ledger, *calls)
    assert list(done_rows(ledger)) == ["first"]
    assert deliveries(ledger) == {0: 1}
    with ledger.reading() as connection:
        assert connection.execute(select(refused.c.number, refused.c.order_id)).all() == [(0, OTHER)]


def test_one_batch_with_a_number_of_two_orders_is_refused(ledger: Ledger) -> None:
    with pytest.raises(NameInUse):
        execute(ledger, call("a", 0, ORDER), call("b", 0, OTHER))
    assert (done_rows(ledger), rows(ledger)) == ({}, [])
    assert execute(ledger, call("a", 0, ORDER)) == [None]


def test_a_refusal_that_the_block_catches_commits_nothing_but_the_refusal(ledger: Ledger) -> None:
    execute(ledger, call("first", 0, ORDER))
    with ledger.recording("小红", "here") as recording, pytest.raises(NameInUse):
        recording.claim([call("a", 5), call("b", 0, OTHER)])
    assert list(done_rows(ledger)) == ["first"]
    with ledger.reading() as connection:
        assert len(connection.execute(select(refused)).all()) == 1


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), LedgerAway()])
def test_an_exception_rolls_everything_back(ledger: Ledger, error: BaseException) -> None:
    def fail() -> None:
        with ledger.recording("小红", "here") as recording:
            recording.claim([call(number=0)])
            raise error

    with pytest.raises(type(error)):
        fail()
    assert (done_rows(ledger), rows(ledger)) == ({}, [])
    assert execute(ledger, call(number=0)) == [None]


@pytest.fixture
def payments(ledger: Ledger) -> Callable[[], list[int]]:
    """Makes the task's own table; returns what is in it."""
    with ledger.recording("小红", "here") as recording:
        recording.connection.execute(text("CREATE TABLE payments (id INTEGER PRIMARY KEY)"))

    def ids() -> list[int]:
        with ledger.reading() as connection:
            return list(connection.execute(text("SELECT id FROM payments ORDER BY id")).scalars())

    return ids


def pay(ledger: Ledger, calls: list[Call], ids: list[int]) -> list[bool]:
    """Execute a batch that pays ``ids``; return whether each was committed."""
    committed = []
    with ledger.recording("小红", "here") as recording:
        recording.claim(calls)
        for one, number in zip(calls, ids, strict=True):
            try:
                with recording.savepoint(one):
                    recording.connection.execute(text("INSERT INTO payments VALUES (:id)"), {"id": number})
            except DBAPIError:
                committed.append(False)
            else:
                committed.append(True)
        recording.finish(
            [(one, None, 5.0) for one, is_committed in zip(calls, committed, strict=True) if is_committed]
        )
    return committed


def test_one_bad_item_of_a_batch_fails_alone_and_is_not_claimed(
    ledger: Ledger, payments: Callable[[], list[int]]
) -> None:
    calls = [call(f"o-{number}", number) for number in range(4)]
    assert pay(ledger, calls, [1, 2, 2, 3]) == [True, True, False, True]
    assert payments() == [1, 2, 3]
    assert sorted(done_rows(ledger)) == ["o-0", "o-1", "o-3"]
    assert sorted(deliveries(ledger)) == [0, 1, 3]
    assert execute(ledger, calls[2]) == [None], "it can be tried again"


def test_a_key_twice_in_a_batch_is_not_done_if_the_first_fails(ledger: Ledger) -> None:
    first, second, other = call("k", 0), call("k", 1), call("l", 2)
    with ledger.recording("小红", "here") as recording:
        assert recording.claim([first, second, other]) == [None, Done(None), None]
        with pytest.raises(ValueError, match="mine"), recording.savepoint(first):
            raise ValueError("mine")
        assert [recording.withdrawn(one) for one in (first, second, other)] == [True, True, False]
    assert sorted(done_rows(ledger)) == ["l"]
    assert sorted(deliveries(ledger)) == [2], "neither may count as eaten"


def test_calls_that_were_executed_before_their_claim_are_recorded_in_one_step(ledger: Ledger) -> None:
    results = [(call("a", 0), '"a"', 4.0), (call("b"), None, 5.0), (call("a", 0), '"again"', 6.0)]
    with ledger.recording("小红", "here") as recording:
        assert recording.record(results) == [None, None, Done(None)]
    assert done_rows(ledger) == {"a": ('"a"', 2), "b": (None, 1)}
    assert [row["eaten_at"] for row in rows(ledger)] == [4.0]
    with ledger.recording("小红", "here") as recording:
        assert recording.record(results[:2]) == [Done('"a"'), Done(None)]


def test_nothing_to_record_is_no_error(ledger: Ledger) -> None:
    with ledger.recording("小红", "here") as recording:
        assert recording.claim([]) == []
        assert recording.record([]) == []
        recording.finish([])


class Failed(Exception):
    """What ends the first transaction."""


@pytest.mark.parametrize(("first_fails", "seen"), [(False, "Done(result='\"first\"')"), (True, "None")])
def test_a_concurrent_delivery_waits_for_the_first_and_sees_its_result(
    ledger: Ledger, ledger_url: str, first_fails: bool, seen: str
) -> None:
    one = call(number=0)
    with suppress(Failed), ledger.recording("小红", "here") as recording:
        recording.claim([one])
        second = child(IMPORTS + CLAIMER, ledger_url)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(2)
        recording.finish([(one, '"first"', 5.0)])
        if first_fails:
            raise Failed
    assert said(second) == f"{seen}\n"
    assert done_rows(ledger) == {"o-1": ('"second"', 1) if first_fails else ('"first"', 2)}


def waiting(recording: Recording) -> int:
    """How many transactions of the server wait for another."""
    found = text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
    return int(recording.connection.execute(found).scalar_one())


def test_two_batches_with_the_same_keys_in_another_sequence_do_not_deadlock(
    ledger: Ledger, ledger_url: str
) -> None:
    calls = [call(f"o-{number}", number) for number in range(200)]
    other = Ledger(ledger_url)
    answers: list[list[Done | None]] = []
    threads = [
        threading.Thread(target=lambda one=one, batch=batch: answers.append(execute(one, *batch)))
        for one, batch in ((ledger, calls), (other, calls[::-1]))
    ]
    third = Ledger(ledger_url)
    with suppress(Failed), third.recording("小红", "here") as holder:
        # In the middle, so that each batch has begun when it waits.
        holder.claim([calls[100]])
        for thread in threads:
            thread.start()
        if ledger_url.startswith("postgresql"):
            wait_until(lambda: waiting(holder) == 2, "both batches to wait", timeout=4)
        raise Failed
    for thread in threads:
        thread.join(60)
    third.close()
    other.close()
    assert sorted(len([it for it in answer if it is None]) for answer in answers) == [0, 200]
    assert set(deliveries(ledger).values()) == {2}


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("victim", ["old", "new"])
def test_a_deadlock_with_a_worker_of_an_older_release_loses_nothing(
    ledger: Ledger, ledger_url: str, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older worker locks its baozi in their sequence. This release inserts the new ones first."""
    engine = create_engine(make_url(ledger_url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        previous_release.eat(connection, 0)
    insert_new = PostgreSQL.insert_new
    has_inserted, may_go_on = threading.Event(), threading.Event()

    def insert_and_wait(*arguments: Any) -> Any:
        left = insert_new(*arguments)
        has_inserted.set()
        assert may_go_on.wait(30)
        return left

    monkeypatch.setattr(PostgreSQL, "insert_new", insert_and_wait)
    answers: list[Done | None] = []

    def new() -> None:
        other = Ledger(ledger_url)
        calls = [call(f"o-{number}", number) for number in (0, 1)]
        answers.extend(retry_while_ledger_away(lambda: execute(other, *calls)))
        other.close()

    thread = threading.Thread(target=new)
    thread.start()
    assert has_inserted.wait(30)

    def old() -> None:
        with engine.begin() as connection:
            # Which of both looks for a deadlock, and so ends: the old one soon, or never.
            timeout = "10ms" if victim == "old" else "1h"
            connection.execute(text(f"SET LOCAL deadlock_timeout = '{timeout}'"))
            previous_release.eat(connection, 0)
            if not may_go_on.is_set():
                may_go_on.set()
                waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                wait_until(lambda: connection.execute(waits).scalar_one(), "the new worker to wait", 4)
            previous_release.eat(connection, 1)

    if victim == "old":
        with pytest.raises(OperationalError, match="deadlock"):
            old()
    old()  # with "old" again: its messages are redelivered
    thread.join(60)
    engine.dispose()
    # Each was counted once by the new worker, and once by each transaction of an older one that committed.
    assert deliveries(ledger) == {0: 3, 1: 2}
    assert set(done_rows(ledger)) == {"o-0", "o-1"}
    assert answers == [Done(None), None if victim == "old" else Done(None)]


@pytest.mark.parametrize(
    ("moment", "paid"),
    [
        ("after the claim", False),
        ("after the task's SQL", False),
        ("before the commit", False),
        ("after the commit", True),
    ],
)
def test_a_worker_that_is_killed_leaves_all_or_nothing(
    ledger: Ledger, ledger_url: str, payments: Callable[[], list[int]], moment: str, paid: bool
) -> None:
    with child(IMPORTS + KILLED, ledger_url, moment) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
        worker.kill()
    one = call(number=0)

    def free() -> bool:
        # PostgreSQL may take a moment to see that its client is gone.
        try:
            answers = ledger.recorded([one], "小红", "here")
            return answers == ([Done('"paid"')] if paid else [None])
        except LedgerAway:
            return False

    wait_until(free, "the killed worker's transaction to end")
    assert payments() == ([1] if paid else [])
    assert execute(ledger, one) == ([Done('"paid"')] if paid else [None])


def test_a_commit_of_unknown_outcome_is_done_again_without_a_second_effect(
    postgresql_url: str,
) -> None:
    ledger = Ledger(postgresql_url).open()
    one = call(number=0)

    def lose_the_commit(is_committed: bool) -> None:
        with ledger.recording("小红", "here") as recording:
            if recording.claim([one]) == [None]:
                recording.finish([(one, '"paid"', 5.0)])
            server: Any = recording.connection.connection.driver_connection

            def cut(_connection: object) -> None:
                if is_committed:
                    # The server commits, and its answer is lost.
                    server.commit()
                server.close()

            event.listen(recording.connection, "commit", cut)

    try:
        for is_committed, left in ((False, []), (True, ["o-1"])):
            with pytest.raises(LedgerAway):
                lose_the_commit(is_committed)
            assert list(done_rows(ledger)) == left
        assert execute(ledger, one) == [Done('"paid"')]
    finally:
        ledger.close()


def test_a_ledger_without_the_table_is_away_and_no_fault_of_the_task(ledger: Ledger) -> None:
    with ledger.recording("小红", "here") as recording:
        recording.connection.execute(text("DROP TABLE done"))
    with pytest.raises(LedgerAway):
        execute(ledger, call())
    with pytest.raises(LedgerAway):
        ledger.recorded([call()], "小红", "here")
