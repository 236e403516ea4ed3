"""The transaction that a task's function gets: the ledger's own, in which its key is claimed.

What the function does in it is committed together with the record that the task is done, or not at all. So
the function cannot commit or roll back, and cannot hold the transaction for longer than its limit.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self

from sqlalchemy import Connection, CursorResult, Executable, ScalarResult, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ReleaseSavepointClause, RollbackToSavepointClause, SavepointClause

from baozi.errors import TransactionControl, TransactionOver, TransactionTooLong
from baozi.ledger_engine import Patience, is_away

#: Steps of SQLite's machine between two looks at the clock: well below a millisecond.
_STEPS = 10_000
#: A server's timeout is set again when less than this part of it is left.
_FRESH = 0.9

_COMMENT = r"/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/"
# PostgreSQL's comments are nested.
for _ in range(3):
    _COMMENT = rf"/\*(?:{_COMMENT}|[^*/]|\*(?!/)|/(?!\*))*\*/"
#: Parts of SQL in which neither a semicolon nor a word counts: comments, strings, and quoted names.
_OPAQUE = re.compile(
    rf"""--[^\n]*|{_COMMENT}|/\*.*?\*/|\be'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*'|"(?:""|[^"])*"|(\$\w*\$).*?\1""",
    re.DOTALL | re.IGNORECASE,
)
#: What begins, ends or marks a transaction in SQLite or PostgreSQL.
_CONTROL = re.compile(
    r"\W*(?:begin|start|commit|rollback|end|abort|savepoint|release|prepare\s+transaction)\b", re.IGNORECASE
)
#: SQLAlchemy's own savepoints, of :meth:`Transaction.savepoint` and of a session.
_SAVEPOINTS = (SavepointClause, RollbackToSavepointClause, ReleaseSavepointClause)


class Transaction:
    """Runs SQL in the ledger's transaction, until the task's function returns.

    What makes one uses it as a context manager around the function, so that it ends with it.
    """

    def __init__(self, connection: Connection, limit_s: float) -> None:
        """Run SQL on ``connection``, which is in a transaction that writes.

        Args:
            connection: a connection to the ledger.
            limit_s: seconds until the function must have returned.
        """
        self._connection = connection
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._ended = False
        driver: Any = connection.connection.driver_connection
        self._driver = driver
        self._is_sqlite = connection.dialect.name == "sqlite"
        #: Seconds of the server's timeout for one statement; None before it is set.
        self._timeout_s: float | None = None
        if self._is_sqlite:
            driver.set_progress_handler(lambda: self._left_s() <= 0, _STEPS)
        else:
            self._patience = driver.patience
            driver.patience = Patience(limit_s)
        # They see all SQL of this connection, a session's as well.
        event.listen(connection, "before_cursor_execute", self._before)
        event.listen(connection, "commit", self._refuse)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End it. After an error of the block nothing else is checked but the limit.

        Raises:
            TransactionTooLong, TransactionOver: as :meth:`end`.
        """
        if error is None:
            self.end()
        else:
            self._close()
            if isinstance(error, DBAPIError):
                self._raise_if_too_long(error)

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Execute ``statement``.

        Args:
            statement: an SQLAlchemy statement, or ``text("…")``.
            parameters: a mapping, or several in a list.

        Returns:
            SQLAlchemy's result.

        Raises:
            TransactionControl: the SQL would begin, commit or roll back a transaction, or set a savepoint.
            TransactionOver: the task's function has returned, or an error has ended the transaction.
            TransactionTooLong: the limit has passed.
            sqlalchemy.exc.DBAPIError: the database refuses it.
        """
        with self._within_limit():
            result: CursorResult[Any] = self._connection.execute(statement, parameters)
            return result

    def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        """Execute ``statement``; return the first column of its first row, or None. As :meth:`execute`."""
        return self.execute(statement, parameters).scalar()

    def scalars(self, statement: Executable, parameters: Any = None) -> ScalarResult[Any]:
        """Execute ``statement``; return the first column of its rows. As :meth:`execute`."""
        return self.execute(statement, parameters).scalars()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Roll back what this block did, and nothing else, if the block raises.

        Raises:
            TransactionOver, TransactionTooLong: as :meth:`execute`.
        """
        with self._within_limit(), self._connection.begin_nested():
            yield

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield an ORM session that works in this transaction.

        It is flushed at the end of the block. If the block raises, what the session did is rolled back.

        Raises:
            TransactionOver, TransactionTooLong: as :meth:`execute`.
        """
        with self._within_limit():
            session = _Joined(self, self._connection)
            try:
                yield session
                self.check()
                Session.commit(session)
            finally:
                Session.close(session)

    def commit(self) -> NoReturn:
        """Raise an error: the transaction commits when the task is recorded.

        Raises:
            TransactionControl: always.
        """
        raise TransactionControl()

    rollback = close = begin = commit

    def end(self) -> None:
        """End it: every later use is an error. The connection stays in its transaction.

        Raises:
            TransactionTooLong: the limit has passed. The caller must roll back.
            TransactionOver: an error has ended the transaction. The caller must roll back.
        """
        if self._ended:
            return
        self._close()
        self._raise_if_too_long(None)
        if not self._is_open():
            raise TransactionOver()

    def check(self) -> None:
        """Check that it can be used.

        Raises:
            TransactionOver, TransactionTooLong: as :meth:`execute`.
        """
        if self._ended:
            raise TransactionOver()
        self._raise_if_too_long(None)
        if not self._is_open():
            raise TransactionOver()

    def _close(self) -> None:
        if self._ended:
            return
        self._ended = True
        event.remove(self._connection, "before_cursor_execute", self._before)
        event.remove(self._connection, "commit", self._refuse)
        if self._connection.closed or self._connection.invalidated:
            return
        if self._is_sqlite:
            self._driver.set_progress_handler(None, 0)
        else:
            self._driver.patience = self._patience

    def _left_s(self) -> float:
        return self._deadline - time.monotonic()

    def _raise_if_too_long(self, cause: BaseException | None) -> None:
        if self._left_s() <= 0:
            raise TransactionTooLong(
                f"The task held its transaction for longer than its limit of {self._limit_s:g} s, so all"
                " of it is rolled back."
            ) from cause

    def _is_open(self) -> bool:
        """Whether the database is still in the transaction, as SQLAlchemy believes.

        Some errors end a transaction of SQLite, and what follows would commit by itself.
        """
        if self._connection.closed or self._connection.invalidated:
            return False
        transaction = self._connection.get_transaction()
        if transaction is None or not transaction.is_active:
            return False
        if self._is_sqlite:
            return bool(self._driver.in_transaction)
        # A connection that is lost says so itself, by the error of the next statement.
        return bool(self._driver.closed or self._driver.info.transaction_status.name != "IDLE")

    @contextmanager
    def _within_limit(self) -> Iterator[None]:
        self.check()
        try:
            yield
        except DBAPIError as error:
            if _is_ended_by_limit(error):
                self._raise_if_too_long(error)
            raise

    def _before(self, _on: Any, _at: Any, sql: str, _with: Any, context: Any, _many: bool) -> None:
        """See each statement before it is executed."""
        statement = getattr(getattr(context, "compiled", None), "statement", None)
        if isinstance(statement, _SAVEPOINTS):
            if isinstance(statement, RollbackToSavepointClause):
                # The server's timeout, if it was set since then, is rolled back with the rest.
                self._timeout_s = None
            return
        if _controls(sql, only_first=self._is_sqlite):
            raise TransactionControl()
        self.check()
        if not self._is_sqlite:
            self._limit_server()

    def _limit_server(self) -> None:
        left_s = self._left_s()
        self._driver.patience.seconds = left_s
        if self._timeout_s is not None and left_s > self._timeout_s * _FRESH:
            return
        self._timeout_s = left_s
        # Rounded up: when a timeout has passed, the limit has.
        milliseconds = max(1, int(left_s * 1000) + 1)
        # A lock is waited for as long as for anything else. An idle transaction holds locks too: the server
        # ends it, since nothing here can interrupt the function.
        self._connection.exec_driver_sql(
            f"SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = 0;"
            f" SET LOCAL idle_in_transaction_session_timeout = {milliseconds}",
            execution_options={"no_parameters": True},
        )

    @staticmethod
    def _refuse(connection: Connection) -> NoReturn:
        # For SQLAlchemy the transaction has ended now. Close the connection, so that it has for the database.
        connection.invalidate()
        raise TransactionControl()


class _Joined(Session):
    """A session in a savepoint of the task's transaction."""

    def __init__(self, transaction: Transaction, connection: Connection) -> None:
        super().__init__(bind=connection, join_transaction_mode="create_savepoint")
        self._transaction_of_task = transaction

    def get_bind(self, *arguments: Any, **options: Any) -> Any:
        """Return the connection, while the task's transaction can be used."""
        self._transaction_of_task.check()
        return super().get_bind(*arguments, **options)

    def commit(self) -> NoReturn:
        """Raise an error, as :meth:`Transaction.commit`."""
        raise TransactionControl()

    def rollback(self) -> NoReturn:
        """Raise an error, as :meth:`Transaction.commit`."""
        raise TransactionControl()

    def close(self) -> NoReturn:
        """Raise an error, as :meth:`Transaction.commit`."""
        raise TransactionControl()

    def begin(self, nested: bool = False) -> Any:
        """Set a savepoint if ``nested``; else raise an error, as :meth:`Transaction.commit`."""
        if not nested:
            raise TransactionControl()
        return super().begin(nested=True)


def _is_ended_by_limit(error: DBAPIError) -> bool:
    """Whether ``error`` may come from the limit: a timeout, a lost connection, an interrupted statement."""
    return is_away(error) or getattr(error.orig, "sqlite_errorname", "") == "SQLITE_INTERRUPT"


def _controls(sql: str, only_first: bool) -> bool:
    """Return whether ``sql`` begins, ends or marks a transaction.

    Args:
        sql: one or more statements.
        only_first: whether the driver executes only one. A trigger of SQLite has more in its body.
    """
    statements = [it for it in _OPAQUE.sub(" ", sql).split(";") if it.strip()]
    return any(map(_CONTROL.match, statements[:1] if only_first else statements))
