import signal

import pytest
from sqlalchemy import select

from baozi.ledger import Ledger
from baozi.ledger_schema import orders
from baozi.model import Closing
from tests.integration.ledgers import (
    baozi,
    child,
    children,
    record_eaten,
    record_eaten_many,
    record_redelivery,
    rows,
    said,
)

pytest_plugins = ["tests.integration.postgresql"]

WRITER = """
ledger.open()
for number in range(200):
    assert eat(number, sys.argv[1])
    eat(number, "all of them")
"""
OPENER = """
print("ready", flush=True)
sys.stdin.readline()
ledger.open()
"""
KILLED = """
ledger.open()
number = 0
while True:
    eat(number)
    print(number, flush=True)
    number += 1
"""


def order(accepted: int, attempted: int, closed_at: float) -> Closing:
    return Closing(run="course", producer="alex", accepted=accepted, attempted=attempted, closed_at=closed_at)


def order_rows(ledger: Ledger) -> list[tuple[object, ...]]:
    with ledger.reading() as connection:
        return [tuple(row) for row in connection.execute(select(orders))]


def test_a_baozi_that_was_eaten_is_a_row(ledger: Ledger) -> None:
    assert record_eaten(ledger, baozi(2**63 - 1, "包子"), "小红", "here", 2.5)
    assert rows(ledger) == [
        {
            "baozi_id": f"course/包子/{2**63 - 1}",
            "run": "course",
            "producer": "包子",
            "number": 2**63 - 1,
            "consumer": "小红",
            "machine": "here",
            "made_at": 1.0,
            "eaten_at": 2.5,
            "deliveries": 1,
            "order_id": "",
        }
    ]


def test_a_batch_is_recorded_at_once_and_only_its_new_calls_are_new(ledger: Ledger) -> None:
    assert record_eaten_many(ledger, [baozi(0), baozi(1)], "小红", "here", 2.0) == [baozi(0), baozi(1)]
    again = [baozi(2), baozi(1), baozi(2), baozi(3)]
    assert record_eaten_many(ledger, again, "小明", "there", 3.0) == [baozi(2), baozi(3)]
    found = {row["number"]: (row["consumer"], row["eaten_at"], row["deliveries"]) for row in rows(ledger)}
    assert found == {
        0: ("小红", 2.0, 1),
        1: ("小红", 2.0, 2),
        2: ("小明", 3.0, 2),
        3: ("小明", 3.0, 1),
    }


def test_a_baozi_that_is_recorded_twice_is_one_row_with_two_deliveries(ledger: Ledger) -> None:
    assert record_eaten(ledger, baozi(), "小红", "here", 2.0) is True
    assert record_eaten(ledger, baozi(), "小明", "there", 3.0) is False
    (row,) = rows(ledger)
    assert row["deliveries"] == 2
    assert (row["consumer"], row["machine"], row["eaten_at"]) == ("小红", "here", 2.0), (
        "who ate it first, ate it"
    )


def test_a_redelivery_is_counted_if_the_baozi_had_been_eaten(ledger: Ledger) -> None:
    assert record_redelivery(ledger, baozi()) is False
    assert rows(ledger) == [], "not eaten yet, so not in the ledger"
    record_eaten(ledger, baozi(), "小红", "here", 2.0)
    record_eaten(ledger, baozi(1), "小红", "here", 2.0)
    assert record_redelivery(ledger, baozi()) is True
    assert record_redelivery(ledger, baozi()) is True
    assert [row["deliveries"] for row in rows(ledger)] == [3, 1]


def test_an_order_that_is_closed_again_only_grows(ledger: Ledger) -> None:
    ledger.record_order(order(5, 6, 20.0))
    ledger.record_order(order(3, 3, 10.0))
    assert order_rows(ledger) == [("course", "alex", 5, 6, 20.0)], "an older message comes late"
    ledger.record_order(order(8, 8, 30.0))
    assert order_rows(ledger) == [("course", "alex", 8, 8, 30.0)]
    ledger.record_order(order(8, 8, 30.0))
    assert order_rows(ledger) == [("course", "alex", 8, 8, 30.0)]


def test_each_producer_of_each_run_has_its_own_order(ledger: Ledger) -> None:
    for run, producer, accepted in (("a", "x", 1), ("a", "y", 2), ("b", "x", 3)):
        ledger.record_order(
            Closing(run=run, producer=producer, accepted=accepted, attempted=9, closed_at=1.0)
        )
    assert sorted(row[:3] for row in order_rows(ledger)) == [("a", "x", 1), ("a", "y", 2), ("b", "x", 3)]


def test_a_ledger_that_is_opened_again_keeps_what_it_has(ledger: Ledger, ledger_url: str) -> None:
    record_eaten(ledger, baozi(), "小红", "here", 2.0)
    ledger.record_order(order(1, 1, 3.0))
    again = Ledger(ledger_url).open()
    assert len(rows(again)) == len(order_rows(again)) == 1
    again.close()


@pytest.mark.parametrize("attempt", range(3))
def test_processes_that_open_a_new_ledger_at_once_all_succeed(ledger_url: str, attempt: int) -> None:
    with children(OPENER, ledger_url, 4) as processes:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", f"attempt {attempt}"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            said(process)


def test_several_processes_that_write_at_once_lose_nothing(ledger_url: str) -> None:
    writers = [child(WRITER, ledger_url, f"producer {number}") for number in range(4)]
    for writer in writers:
        said(writer)
    ledger = Ledger(ledger_url)
    try:
        found = rows(ledger)
    finally:
        ledger.close()
    deliveries = {(row["producer"], row["number"]): row["deliveries"] for row in found}
    own = {(f"producer {writer}", number): 1 for writer in range(4) for number in range(200)}
    shared = {("all of them", number): 4 for number in range(200)}
    assert deliveries == own | shared


def test_a_recorded_row_survives_a_kill_right_after_the_commit(ledger_url: str) -> None:
    for _ in range(3):
        with child(KILLED, ledger_url) as writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(20)]
            assert writer.poll() is None, "killed at work"
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.readlines()
        last = max(int(line) for line in told if line.endswith("\n"))
        ledger = Ledger(ledger_url)
        try:
            assert {row["number"] for row in rows(ledger)} >= set(range(last + 1))
            assert record_redelivery(ledger, baozi(last)) is True
        finally:
            ledger.close()


def test_a_sqlite_commit_is_on_the_disk_when_it_returns(sqlite_ledger: Ledger) -> None:
    # A power cut cannot be tested here. FULL (2) is what SQLite's manual asks for in WAL mode.
    with sqlite_ledger.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
