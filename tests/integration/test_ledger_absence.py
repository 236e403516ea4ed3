"""Only a database that is away for now is waited for. An error of the SQL is an error of who wrote it."""

import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from baozi.errors import LedgerAway
from baozi.ledger import Ledger
from baozi.ledger_engine import is_away
from baozi.ledger_url import file_url
from baozi.recording import Call
from tests.integration.ledgers import baozi, file_of

if TYPE_CHECKING:
    from side_by_side.postgresql import PostgreSQLServer

pytest_plugins = ["tests.integration.postgresql"]

#: SQL that is wrong on both databases, in one transaction.
WRONG = [
    ["INSERT INTO mine VALUES (1, 'a'), (1, 'b')"],
    ["INSERT INTO mine VALUES (2, NULL)"],
    ["INSERT INTO mine VALUES (3, 'too long for the check')"],
    ["INSERT INTO theirs VALUES (77)"],
    ["SELECT missing FROM mine"],
    ["SELECT * FROM missing"],
    ["SELEC 1"],
    ["SELECT no_such_function(1)"],
    ["CREATE TABLE mine (id INTEGER)"],
    ["DROP TABLE missing"],
    ["INSERT INTO mine VALUES (1)"],
]
#: SQL that is wrong on PostgreSQL.
WRONG_ON_POSTGRESQL = [
    ["SELECT 1 / 0"],
    ["SELECT CAST('x' AS INTEGER)"],
    ["SELECT CAST('2026-99-99' AS DATE)"],
    ["SELECT CAST('{' AS JSON)"],
    ["SELECT 99999999999::INTEGER"],
    ["SET LOCAL ROLE missing"],
    ["SET LOCAL ROLE pg_monitor", "INSERT INTO mine VALUES (1, 'a')"],
    ["DO $$ BEGIN RAISE EXCEPTION 'the order is closed'; END $$"],
]


def fail(ledger: Ledger, *statements: str) -> None:
    with ledger.recording("小红", "here") as recording:
        recording.claim([Call("shop.charge", "o-1", baozi(0))])
        for statement in statements:
            recording.connection.execute(text(statement))


@pytest.fixture
def with_tables(ledger: Ledger) -> Ledger:
    """A ledger whose database has a task's own tables."""
    with ledger.recording("小红", "here") as recording:
        for statement in (
            "CREATE TABLE mine (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL CHECK (length(name) < 9))",
            "CREATE TABLE theirs (mine INTEGER NOT NULL CHECK (mine < 9))",
        ):
            recording.connection.execute(text(statement))
    return ledger


@pytest.mark.parametrize("statements", WRONG)
def test_wrong_sql_of_a_task_is_the_task_s_error_and_not_the_ledger_s_absence(
    with_tables: Ledger, statements: list[str]
) -> None:
    with pytest.raises(DBAPIError) as caught:
        fail(with_tables, *statements)
    assert not is_away(caught.value)
    assert with_tables.recorded([Call("shop.charge", "o-1")], "小红", "here") == [None], "rolled back"


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("statements", WRONG_ON_POSTGRESQL)
def test_wrong_sql_on_postgresql_is_the_task_s_error(with_tables: Ledger, statements: list[str]) -> None:
    with pytest.raises(DBAPIError) as caught:
        fail(with_tables, *statements)
    assert not is_away(caught.value)


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_a_constraint_that_is_checked_at_the_commit_is_the_task_s_error(ledger: Ledger) -> None:
    with pytest.raises(DBAPIError) as caught:
        fail(
            ledger,
            "CREATE TABLE late (id INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)",
            "INSERT INTO late VALUES (1), (1)",
        )
    assert not is_away(caught.value)
    assert ledger.recorded([Call("shop.charge", "o-1")], "小红", "here") == [None]


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL statement_timeout = 50; SELECT pg_sleep(60)",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)",
        *(
            f"DO $$ BEGIN RAISE EXCEPTION 'pretended' USING ERRCODE = '{state}'; END $$"
            for state in ("08006", "53100", "53200", "53300", "55P03", "57P01", "57P03", "58030", "40001")
        ),
    ],
)  # fmt: skip
def test_a_postgresql_that_gives_no_answer_is_away(ledger: Ledger, statement: str) -> None:
    with pytest.raises(LedgerAway), ledger.recording("小红", "here") as recording:
        recording.connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    assert ledger.recorded([Call("shop.charge", "o-1")], "小红", "here") == [None], "it is used again"


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_a_lock_that_is_not_free_in_time_and_a_transaction_that_only_reads_are_absences(
    ledger: Ledger, ledger_url: str
) -> None:
    fail(ledger, "CREATE TABLE mine (id INTEGER)")
    other = Ledger(ledger_url, patience=0.3)
    with ledger.recording("小红", "here") as holder:
        holder.connection.execute(text("LOCK TABLE mine IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(LedgerAway, match="timeout"), other.recording("小明", "there") as recording:
            recording.connection.execute(text("SELECT * FROM mine"))
    with pytest.raises(LedgerAway, match="read-only"), other.recording("小明", "there") as recording:
        recording.connection.exec_driver_sql("SET TRANSACTION READ ONLY; DELETE FROM mine")
    other.close()


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_a_deadlock_of_tasks_is_an_absence_for_one_of_them(ledger: Ledger, ledger_url: str) -> None:
    for name in ("a", "b"):
        with ledger.recording("小红", "here") as recording:
            recording.connection.execute(text(f"CREATE TABLE {name} (id INTEGER)"))
    both = threading.Barrier(2, timeout=30)
    away: list[LedgerAway] = []

    def lock(first: str, second: str) -> None:
        own = Ledger(ledger_url)
        try:
            with own.recording("小红", "here") as recording:
                recording.connection.execute(text(f"LOCK TABLE {first}"))
                both.wait()
                recording.connection.execute(text(f"LOCK TABLE {second}"))
        except LedgerAway as error:
            away.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=lock, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(away) == 1
    assert "deadlock" in str(away[0])


def test_a_busy_sqlite_is_away(sqlite_url: str) -> None:
    ledger = Ledger(sqlite_url, patience=0.2).open()
    holder = sqlite3.connect(file_of(sqlite_url), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerAway, match="locked"):
        fail(ledger)
    holder.close()
    ledger.close()


@pytest.mark.parametrize(
    ("pragma", "reason"), [("PRAGMA max_page_count = 1", "full"), ("PRAGMA query_only = ON", "readonly")]
)
def test_a_full_or_read_only_sqlite_is_away(sqlite_ledger: Ledger, pragma: str, reason: str) -> None:
    with pytest.raises(LedgerAway, match=reason):
        fail(sqlite_ledger, pragma, "CREATE TABLE large AS SELECT zeroblob(1000000) AS bytes")


def test_a_sqlite_that_cannot_be_opened_is_away(tmp_path: Path) -> None:
    ledger = Ledger(file_url(tmp_path / "missing" / "ledger.sqlite3"))
    with pytest.raises(LedgerAway, match="unable to open"):
        fail(ledger)
    ledger.close()


def test_a_refused_connection_and_a_refused_password_are_absences(postgresql: "PostgreSQLServer") -> None:
    for url in (
        "postgresql://x:y@127.0.0.1:1/z",
        postgresql.url("postgres", "wrong"),
        postgresql.url("nowhere"),
    ):
        ledger = Ledger(url)
        with pytest.raises(LedgerAway):
            fail(ledger)
        ledger.close()
