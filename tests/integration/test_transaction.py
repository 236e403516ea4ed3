"""A task's transaction: its SQL is committed with its record; it cannot end the transaction, nor hold it."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, event, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from baozi.errors import BaoziError, LedgerAway, TransactionControl, TransactionOver, TransactionTooLong
from baozi.execution import Raised, Recorder, Work, together
from baozi.ledger import Ledger
from baozi.ledger_schema import done
from baozi.recording import Call, Done
from baozi.transaction import ServerTimeout, Transaction

pytest_plugins = ["tests.integration.postgresql"]

#: Runs a test on one of the two databases.
ON_SQLITE = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)

CALL = Call("shop.charge", "o-1")
payments = Table("payments", MetaData(), Column("id", Integer, primary_key=True))


class Base(DeclarativeBase):
    """The test's ORM."""


class Payment(Base):
    """A row of ``payments``."""

    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)


def run(
    ledger: Ledger, function: Callable[[Transaction], object], limit_s: float = 60, call: Call = CALL
) -> Done | None:
    """Do what a worker does for a function that takes the transaction."""
    with ledger.recording("小红", "here") as recording:
        (earlier,) = recording.claim([call])
        if earlier is None:
            with Transaction(recording.connection, limit_s, ServerTimeout(recording.connection)) as tx:
                function(tx)
            recording.finish([(call, None, time.time())])
    return earlier


def pay(*ids: int) -> Callable[[Transaction], object]:
    return lambda tx: tx.execute(insert(payments), [{"id": id_} for id_ in ids])


def paid(ledger: Ledger) -> list[int]:
    with ledger.reading() as connection:
        return list(connection.execute(select(payments.c.id).order_by(payments.c.id)).scalars())


def is_done(ledger: Ledger) -> bool:
    return ledger.recorded([CALL], "小红", "here") != [None]


@pytest.fixture(autouse=True)
def _table(ledger: Ledger) -> None:
    with ledger.recording("小红", "here") as recording:
        payments.create(recording.connection)


def test_the_sql_of_a_task_takes_effect_once(ledger: Ledger) -> None:
    assert run(ledger, pay(1)) is None
    assert run(ledger, pay(1)) == Done(None)
    assert paid(ledger) == [1]


def test_it_executes_and_reads(ledger: Ledger) -> None:
    def function(tx: Transaction) -> None:
        pay(1, 2, 3)(tx)
        assert tx.execute(text("DELETE FROM payments WHERE id = :id"), {"id": 3}).rowcount == 1
        assert tx.scalar(select(payments.c.id).where(payments.c.id == 2)) == 2
        assert tx.scalar(select(payments.c.id).where(payments.c.id == 9)) is None
        assert tx.scalars(select(payments.c.id).order_by(payments.c.id)).all() == [1, 2]

    run(ledger, function)
    assert paid(ledger) == [1, 2]


def test_an_error_of_the_task_s_sql_is_its_own_and_rolls_all_back(ledger: Ledger) -> None:
    with pytest.raises(IntegrityError):
        run(ledger, lambda tx: [pay(1)(tx), pay(1)(tx)])
    assert (paid(ledger), is_done(ledger)) == ([], False)


def test_a_savepoint_rolls_back_only_its_block(ledger: Ledger) -> None:
    def function(tx: Transaction) -> None:
        pay(1)(tx)
        with pytest.raises(IntegrityError), tx.savepoint():
            pay(2, 1)(tx)
        with tx.savepoint(), tx.savepoint():
            pay(3)(tx)

    run(ledger, function)
    assert (paid(ledger), is_done(ledger)) == ([1, 3], True)


def test_a_session_works_in_the_transaction(ledger: Ledger) -> None:
    def function(tx: Transaction) -> None:
        with tx.session() as session:
            session.add(Payment(id=1))
            session.flush()
            with session.begin_nested():
                session.add(Payment(id=2))
        assert tx.scalars(select(payments.c.id).order_by(payments.c.id)).all() == [1, 2]
        with pytest.raises(IntegrityError), tx.session() as session:
            session.add_all([Payment(id=3), Payment(id=1)])
        with pytest.raises(ValueError, match="mine"), tx.session() as session:
            fail_after_flush(session)

    run(ledger, function)
    assert (paid(ledger), is_done(ledger)) == ([1, 2], True)


def fail_after_flush(session: Session) -> None:
    session.add(Payment(id=4))
    session.flush()
    raise ValueError("mine")


def both(first: Callable[[Transaction], object], second: Callable[[Transaction], object]) -> Any:
    return lambda tx: [first(tx), second(tx)]


def in_session(use: Callable[[Session], object]) -> Callable[[Transaction], object]:
    def function(tx: Transaction) -> None:
        with tx.session() as session:
            use(session)

    return function


COMMANDS = [
    "COMMIT", "commit", "  Commit ;", "COMMIT WORK", "COMMIT AND CHAIN", "END", "END TRANSACTION", "ABORT",
    "ROLLBACK", "ROLLBACK TO x", "ROLLBACK TRANSACTION TO SAVEPOINT x", "BEGIN", "BEGIN IMMEDIATE",
    "START TRANSACTION", "SAVEPOINT x", "RELEASE x", "RELEASE SAVEPOINT x", "PREPARE TRANSACTION 'x'",
    "COMMIT PREPARED 'x'", "\n\t COMMIT", ";COMMIT", " ; ;\n COMMIT", "-- a remark\nCOMMIT", "/* a */COMMIT",
    "/* a */ -- b\n /* c; */ ; COMMIT", "/* /* nested */ c */ COMMIT", "/**/ROLLBACK", "/* '\" */ COMMIT",
    "/*** a ***/ END;", "-- it's\nCOMMIT --", "\ufeffCOMMIT",
]  # fmt: skip
LATER = [
    "SELECT 1; COMMIT", "SELECT ';'; COMMIT",
    "SELECT 1 /* ; */ ;-- x\n COMMIT; BEGIN", "SELECT $a$;$a$; COMMIT",
    "SELECT E'\\';'; COMMIT", "SELECT '''' ; rollback", "SELECT 1 AS \";\"; END",
]  # fmt: skip


@pytest.mark.parametrize("sql", COMMANDS)
def test_sql_that_controls_the_transaction_is_refused_and_nothing_is_committed(
    ledger: Ledger, sql: str
) -> None:
    uses: list[Callable[[Transaction], object]] = [
        lambda tx: tx.execute(text(sql.replace(":", "\\:"))),
        in_session(lambda session: session.execute(text(sql))),
        in_session(lambda session: session.connection().exec_driver_sql(sql)),
    ]
    for use in uses:
        with pytest.raises(TransactionControl) as caught:
            run(ledger, both(pay(1), use))
        assert str(caught.value).startswith("A task cannot begin, commit or roll back its transaction.")
        assert (paid(ledger), is_done(ledger)) == ([], False)


@ON_POSTGRESQL
@pytest.mark.parametrize("sql", LATER)
def test_a_command_behind_another_statement_is_refused(ledger: Ledger, sql: str) -> None:
    with pytest.raises(TransactionControl):
        run(ledger, lambda tx: tx.execute(text(sql)))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'COMMIT'", "SELECT ';COMMIT'", "SELECT 1 AS \"commit\"", "/* COMMIT */ SELECT 1",
        "-- COMMIT\nSELECT 1", "SELECT 1 -- ; COMMIT", "SELECT 'it''s; COMMIT'", "SELECT 1 AS commits;",
        "SELECT 'a\\'", "WITH ended AS (SELECT 1) SELECT * FROM ended",
    ],
)  # fmt: skip
def test_sql_that_only_has_such_words_is_executed(ledger: Ledger, sql: str) -> None:
    run(ledger, lambda tx: tx.execute(text(sql)).all())
    assert is_done(ledger)


@ON_SQLITE
def test_a_trigger_of_sqlite_can_be_made(ledger: Ledger) -> None:
    body = "CREATE TRIGGER t AFTER INSERT ON payments BEGIN DELETE FROM payments WHERE id = 1; END"
    run(ledger, lambda tx: tx.execute(text(body)))
    assert is_done(ledger)


@pytest.mark.parametrize("catches", [False, True])
@pytest.mark.parametrize(
    "use",
    [
        lambda tx: tx.commit(),
        lambda tx: tx.rollback(),
        lambda tx: tx.close(),
        lambda tx: tx.begin(),
        in_session(lambda session: session.commit()),
        in_session(lambda session: session.rollback()),
        in_session(lambda session: session.close()),
        in_session(lambda session: session.begin()),
    ],
)
def test_methods_that_would_end_the_transaction_are_refused(
    ledger: Ledger, use: Callable[[Transaction], object], catches: bool
) -> None:
    def function(tx: Transaction) -> None:
        pay(1)(tx)
        try:
            use(tx)
        except TransactionControl:
            if not catches:
                raise

    if catches:
        run(ledger, function)
    else:
        with pytest.raises(TransactionControl):
            run(ledger, function)
    assert (paid(ledger), is_done(ledger)) == (([1], True) if catches else ([], False))


@pytest.mark.parametrize("catches", [False, True])
@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_a_commit_of_the_connection_under_a_session_commits_nothing(
    ledger: Ledger, command: str, catches: bool
) -> None:
    def function(tx: Transaction) -> None:
        pay(1)(tx)
        try:
            in_session(lambda session: getattr(session.connection(), command)())(tx)
        except Exception:
            if not catches:
                raise

    with pytest.raises(BaoziError):
        run(ledger, function)
    assert (paid(ledger), is_done(ledger)) == ([], False)


def test_a_transaction_that_is_kept_cannot_be_used(ledger: Ledger) -> None:
    kept: list[Any] = []

    def function(tx: Transaction) -> None:
        with tx.session() as session:
            session.execute(select(payments))
            kept.extend([tx, session])

    with ledger.recording("小红", "here") as recording:
        with Transaction(recording.connection, 60, ServerTimeout(recording.connection)) as tx:
            function(tx)
        tx, session = kept
        uses: list[Callable[[], object]] = [
            lambda: pay(1)(tx),
            lambda: tx.scalar(select(1)),
            lambda: tx.scalars(select(1)),
            lambda: tx.savepoint().__enter__(),
            lambda: tx.session().__enter__(),
            lambda: session.execute(select(1)),
            lambda: session.get(Payment, 1),
        ]
        for use in uses:
            with pytest.raises(TransactionOver, match="has ended"):
                use()
        recording.claim([CALL])
        recording.finish([(CALL, None, 1.0)])
    with pytest.raises(TransactionOver):
        pay(1)(tx)
    assert (paid(ledger), is_done(ledger)) == ([], True)


SLOW = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c",
    "postgresql": "SELECT pg_sleep(60)",
}


@pytest.mark.parametrize("how", ["in a statement", "between two", "after the last", "in a session", "caught"])
def test_a_task_that_holds_its_transaction_past_its_limit_fails_and_is_rolled_back(
    ledger: Ledger, how: str
) -> None:
    slow = text(SLOW[ledger._engine.dialect.name])

    def function(tx: Transaction) -> None:
        pay(1)(tx)
        if how == "in a statement":
            tx.execute(slow)
        elif how == "in a session":
            in_session(lambda session: session.execute(slow))(tx)
        elif how == "caught":
            with pytest.raises(TransactionTooLong):
                tx.execute(slow)
        else:
            time.sleep(0.7)  # the fault itself: the function holds the transaction
            if how == "between two":
                pay(2)(tx)

    with pytest.raises(TransactionTooLong) as caught:
        run(ledger, function, limit_s=0.5)
    assert str(caught.value).startswith("The task held its transaction for longer than its limit of 0.5 s")
    assert (paid(ledger), is_done(ledger)) == ([], False)
    assert run(ledger, pay(1)) is None, "the ledger can be used after it"


def test_a_statement_may_take_longer_than_the_ledger_s_patience(ledger_url: str) -> None:
    ledger = Ledger(ledger_url, patience=0.2)
    name = ledger._engine.dialect.name
    slow = {
        "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 3000000)"
        " SELECT max(n) FROM c",
        "postgresql": "SELECT pg_sleep(1.5)",
    }
    run(ledger, lambda tx: tx.execute(text(slow[name])).all())
    assert is_done(ledger)
    ledger.close()


@ON_POSTGRESQL
def test_a_lock_is_waited_for_until_the_limit(ledger: Ledger) -> None:
    run(ledger, pay(7))
    with ledger.recording("小明", "there") as holder:
        holder.connection.execute(text("UPDATE payments SET id = 7"))
        with pytest.raises(TransactionTooLong):
            run(
                ledger,
                lambda tx: tx.execute(text("UPDATE payments SET id = 8")),
                0.5,
                Call("shop.charge", "o-2"),
            )


@ON_SQLITE
def test_what_follows_an_error_that_ended_sqlite_s_transaction_is_not_committed_by_itself(
    ledger: Ledger,
) -> None:
    def function(tx: Transaction) -> None:
        pay(1)(tx)
        with pytest.raises(DBAPIError):
            tx.execute(text("INSERT OR ROLLBACK INTO payments VALUES (1)"))
        pay(2)(tx)

    with pytest.raises(TransactionOver):
        run(ledger, function)
    assert (paid(ledger), is_done(ledger)) == ([], False)


def test_an_error_that_a_task_swallows_does_not_leave_it_done(ledger: Ledger) -> None:
    def function(tx: Transaction) -> None:
        pay(1)(tx)
        with pytest.raises(DBAPIError):
            tx.execute(text("SELECT * FROM missing"))

    if ledger._engine.dialect.name == "sqlite":
        run(ledger, function)  # SQLite's transaction goes on after such an error
        assert (paid(ledger), is_done(ledger)) == ([1], True)
    else:
        with pytest.raises(TransactionOver, match="raise its database errors"):
            run(ledger, function)
        assert (paid(ledger), is_done(ledger)) == ([], False)


@ON_POSTGRESQL
def test_the_connection_s_own_bounds_come_back(ledger: Ledger) -> None:
    with ledger.recording("小红", "here") as recording:
        driver: Any = recording.connection.connection.driver_connection
        before = driver.patience
        with Transaction(recording.connection, 60, ServerTimeout(recording.connection)) as tx:
            tx.execute(select(1))
            assert 59 < driver.patience.seconds <= 60
        assert driver.patience is before


@ON_POSTGRESQL
def test_a_savepoint_that_is_rolled_back_leaves_the_limit_on_the_server(ledger: Ledger) -> None:
    def function(tx: Transaction) -> None:
        with pytest.raises(ValueError, match="mine"), tx.savepoint():
            fail_after_select(tx)
        assert tx.scalar(text("SELECT setting FROM pg_settings WHERE name = 'statement_timeout'")) > "59000"

    run(ledger, function)


def fail_after_select(tx: Transaction) -> None:
    tx.execute(select(1))
    raise ValueError("mine")


class Paying:
    """A task that pays a number, in the ledger's transaction. ``do`` comes after the payment."""

    as_list = False
    transaction_limit = 60.0

    def __init__(self, do: Callable[[Transaction, int], object] = lambda _tx, _number: None) -> None:
        self.do = do

    def results(self, works: Sequence[Work], transaction: Transaction | None) -> Sequence[int]:
        """Pay."""
        assert transaction is not None
        (number,) = works[0].args
        pay(number)(transaction)
        self.do(transaction, number)
        return [number]

    def on_recorded(self, works: Sequence[Work], consumer: str) -> None:
        """Do nothing."""


def pay_batch(ledger: Ledger, task: Paying, numbers: Sequence[int]) -> list[int | type[Exception]]:
    """Do what a worker does for a batch. Return what became of each number: itself, or its error."""
    works = [Work(task, Call("shop.pay", f"o-{number}"), (number,), {}) for number in numbers]
    outcomes: list[int | type[Exception]] = []
    with together(Recorder(ledger, "小红", "here"), in_transaction=True) as group:
        group.add(works)
        for work in works:
            try:
                outcomes.append(group.execute(work))
            except Raised as raised:
                outcomes.append(type(raised.error))
            except Exception as error:
                outcomes.append(type(error))
    return outcomes


def recorded(ledger: Ledger) -> dict[str, str | None]:
    """The key and the result of each execution that the ledger has."""
    with ledger.reading() as connection:
        return {row.key: row.result for row in connection.execute(select(done.c.key, done.c.result))}


def test_a_batch_sets_the_timeout_and_stores_the_results_once(ledger: Ledger) -> None:
    executed: list[str] = []
    event.listen(ledger._engine, "before_cursor_execute", lambda _on, _at, sql, *_: executed.append(sql))
    assert pay_batch(ledger, Paying(), range(20)) == list(range(20))
    on_server = ledger._engine.dialect.name == "postgresql"
    assert len([sql for sql in executed if sql.startswith("UPDATE")]) == 1
    assert len([sql for sql in executed if "idle_in_transaction_session_timeout" in sql]) == on_server
    assert recorded(ledger) == {f"o-{number}": str(number) for number in range(20)}


def test_of_a_batch_each_that_fails_leaves_nothing_and_the_others_are_recorded(ledger: Ledger) -> None:
    def do(tx: Transaction, number: int) -> None:
        if number in {0, 3}:
            raise ValueError("no such number")
        if number == 2:
            with suppress(DBAPIError):  # the function hides it
                tx.execute(text("SELECT * FROM missing"))
        if number == 4:
            with pytest.raises(IntegrityError), tx.savepoint():
                pay(4)(tx)

    hidden = 2 if ledger._engine.dialect.name == "sqlite" else TransactionOver
    assert pay_batch(ledger, Paying(do), range(6)) == [ValueError, 1, hidden, ValueError, 4, 5]
    good = [number for number in (1, 2, 4, 5) if number != 2 or hidden == 2]
    assert paid(ledger) == good
    assert recorded(ledger) == {f"o-{number}": str(number) for number in good}


@ON_POSTGRESQL
def test_each_function_of_a_batch_has_the_limit_on_the_server(ledger: Ledger) -> None:
    timeouts: list[int] = []

    def do(tx: Transaction, number: int) -> None:
        setting = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
        timeouts.append(int(tx.scalar(text(setting))))
        if number in {0, 2}:
            raise ValueError("rolls the timeout back too")
        if number == 1:
            time.sleep(1.2)  # more than a tenth of the limit
            tx.scalar(text("SELECT 1"))
            timeouts.append(int(tx.scalar(text(setting))))

    task = Paying(do)
    task.transaction_limit = 10
    pay_batch(ledger, task, range(5))
    at_once, later = 10_001, timeouts.pop(2)
    assert timeouts == [at_once] * 5
    assert 8_000 < later < 8_900


@ON_POSTGRESQL
def test_a_batch_whose_connection_is_lost_leaves_nothing_and_the_ledger_counts_as_away(
    ledger: Ledger,
) -> None:
    def do(tx: Transaction, number: int) -> None:
        if number == 1:
            pid = tx.scalar(text("SELECT pg_backend_pid()"))
            with ledger._engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    with pytest.raises(LedgerAway):
        pay_batch(ledger, Paying(do), range(4))
    assert (paid(ledger), recorded(ledger)) == ([], {})
    assert pay_batch(ledger, Paying(), range(4)) == [0, 1, 2, 3]
