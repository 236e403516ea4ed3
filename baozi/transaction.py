"""The transaction that a task's function can use: the ledger's own, in which the task's key is claimed.

The function's SQL is committed together with the record that the task is done, or not at all. So the function
cannot commit or roll back, and cannot hold the transaction for longer than the task's ``transaction_limit``.
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

#: Instructions of SQLite's virtual machine between two checks of the time limit; they take less than 1 ms.
_STEPS = 10_000
#: PostgreSQL's statement timeout is set again when less than this fraction of it is left.
_FRESH = 0.9

_COMMENT = r"/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/"
# PostgreSQL's comments are nested.
for _ in range(3):
    _COMMENT = rf"/\*(?:{_COMMENT}|[^*/]|\*(?!/)|/(?!\*))*\*/"
#: The parts of SQL in which semicolons and keywords have no meaning: comments, strings and quoted names.
_OPAQUE = re.compile(
    rf"""--[^\n]*|{_COMMENT}|/\*.*?\*/|\be'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*'|"(?:""|[^"])*"|(\$\w*\$).*?\1""",
    re.DOTALL | re.IGNORECASE,
)
#: Statements that begin or end a transaction, or use a savepoint, in SQLite or PostgreSQL.
_CONTROL = re.compile(
    r"\W*(?:begin|start|commit|rollback|end|abort|savepoint|release|prepare\s+transaction)\b", re.IGNORECASE
)
#: SQLAlchemy's own savepoints, of :meth:`Transaction.savepoint` and of a session.
_SAVEPOINTS = (SavepointClause, RollbackToSavepointClause, ReleaseSavepointClause)


class ServerTimeout:
    """PostgreSQL's timeouts in one transaction. All functions that use the transaction share them."""

    def __init__(self, connection: Connection) -> None:
        """Nothing is set yet in the transaction of ``connection``."""
        #: Seconds of the timeout for one statement; None if it is not set.
        self._set_s: float | None = None
        event.listen(connection, "rollback_savepoint", self._rolled_back)

    def _rolled_back(self, *_: Any) -> None:
        # The rollback also undoes a timeout that was set after the savepoint.
        self._set_s = None

    def limit(self, connection: Connection, left_s: float, limit_s: float) -> None:
        """Set the timeout for the next statement of a function.

        Args:
            connection: the connection.
            left_s: seconds that the function may still use the transaction.
            limit_s: seconds that it had at its beginning. The next function has as many.
        """
        if self._set_s is not None and self._set_s * _FRESH < left_s <= self._set_s:
            return
        self._set_s = limit_s if left_s > limit_s * _FRESH else left_s
        # Rounded up, so that the server's timeout never comes before the limit.
        milliseconds = max(1, int(self._set_s * 1000) + 1)
        # Waiting for a lock has no shorter timeout than the statement. An idle transaction also holds locks:
        # the server ends it, because this process cannot interrupt the function.
        connection.exec_driver_sql(
            f"SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = 0;"
            f" SET LOCAL idle_in_transaction_session_timeout = {milliseconds}",
            execution_options={"no_parameters": True},
        )


class Transaction:
    """Executes SQL in the ledger's transaction while the task's function runs.

    A parameter of the function with this annotation receives it. The library commits when the function has
    returned, and rolls back if the function raises.
    """

    def __init__(self, connection: Connection, limit_s: float, timeout: ServerTimeout) -> None:
        """Use ``connection``.

        Args:
            connection: a connection to the ledger, in a transaction that writes.
            limit_s: seconds within which the function must return.
            timeout: the server's timeouts in this transaction of ``connection``.
        """
        self._connection = connection
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._ended = False
        driver: Any = connection.connection.driver_connection
        self._driver = driver
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._timeout = timeout
        if self._is_sqlite:
            driver.set_progress_handler(lambda: self._left_s() <= 0, _STEPS)
        else:
            self._patience = driver.patience
            driver.patience = Patience(limit_s)
        # These listeners see all SQL of the connection, also that of a session.
        event.listen(connection, "before_cursor_execute", self._before)
        event.listen(connection, "commit", self._refuse)

    def __enter__(self) -> Self:
        """Return the transaction itself."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End the transaction for the function. If the block raised, only the time limit is checked.

        Raises:
            TransactionTooLong: the time limit has passed.
            TransactionOver: a database error has ended the transaction.
        """
        if error is None:
            self.end()
        else:
            self._close()
            if isinstance(error, DBAPIError):
                self._raise_if_too_long(error)

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Execute an SQL statement.

        Args:
            statement: an SQLAlchemy statement, such as ``text("…")``.
            parameters: a mapping of parameters, or a list of mappings to execute the statement for each.

        Returns:
            SQLAlchemy's result.

        Raises:
            TransactionControl: the SQL would begin, commit or roll back a transaction, or use a savepoint.
            TransactionOver: the task's function has returned, or a database error has ended the transaction.
            TransactionTooLong: the time limit has passed.
            sqlalchemy.exc.DBAPIError: the database refuses the statement.
        """
        with self._within_limit():
            result: CursorResult[Any] = self._connection.execute(statement, parameters)
            return result

    def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        """Execute a statement. Return the first column of its first row, or None if there is no row.

        The parameters and the errors are those of :meth:`execute`.
        """
        return self.execute(statement, parameters).scalar()

    def scalars(self, statement: Executable, parameters: Any = None) -> ScalarResult[Any]:
        """Execute a statement. Return the first column of all its rows.

        The parameters and the errors are those of :meth:`execute`.
        """
        return self.execute(statement, parameters).scalars()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Roll back the changes of this block, and no others, if the block raises.

        Raises:
            TransactionOver: the task's function has returned, or a database error has ended the transaction.
            TransactionTooLong: the time limit has passed.
        """
        with self._within_limit(), self._connection.begin_nested():
            yield

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield an SQLAlchemy ORM session in this transaction.

        The session is flushed at the end of the block. If the block raises, its changes are rolled back.

        Raises:
            TransactionOver: the task's function has returned, or a database error has ended the transaction.
            TransactionTooLong: the time limit has passed.
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
        """Raise :class:`TransactionControl`: the library commits when the function has returned."""
        raise TransactionControl()

    rollback = close = begin = commit

    def end(self) -> None:
        """End the use by the function: from now on every use raises. The database transaction stays open.

        Raises:
            TransactionTooLong: the time limit has passed. The caller must roll back.
            TransactionOver: a database error has ended the transaction. The caller must roll back.
        """
        if self._ended:
            return
        self._close()
        self._raise_if_too_long(None)
        if not self._is_open() or self._has_failed():
            raise TransactionOver()

    def check(self) -> None:
        """Check that the transaction can be used.

        Raises:
            TransactionOver: the task's function has returned, or a database error has ended the transaction.
            TransactionTooLong: the time limit has passed.
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
                "The task held its transaction for longer than its limit of {limit:g} s, so all of it is"
                " rolled back.",
                limit=self._limit_s,
            ) from cause

    def _is_open(self) -> bool:
        """Return whether the database is still in the transaction, which SQLAlchemy may not know.

        Some errors end SQLite's transaction. Each statement after that would be committed by itself.
        """
        if self._connection.closed or self._connection.invalidated:
            return False
        transaction = self._connection.get_transaction()
        if transaction is None or not transaction.is_active:
            return False
        if self._is_sqlite:
            return bool(self._driver.in_transaction)
        # If the connection is lost, the next statement raises the error.
        return bool(self._driver.closed or self._driver.info.transaction_status.name != "IDLE")

    def _has_failed(self) -> bool:
        """Return whether the function has hidden an error after which PostgreSQL accepts only a rollback."""
        return not self._is_sqlite and bool(self._driver.info.transaction_status.name == "INERROR")

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
        """Check each statement before it is executed."""
        statement = getattr(getattr(context, "compiled", None), "statement", None)
        if isinstance(statement, _SAVEPOINTS):
            return
        if _controls(sql, only_first=self._is_sqlite):
            raise TransactionControl()
        self.check()
        if not self._is_sqlite:
            left_s = self._left_s()
            self._driver.patience.seconds = left_s
            self._timeout.limit(self._connection, left_s, self._limit_s)

    @staticmethod
    def _refuse(connection: Connection) -> NoReturn:
        # SQLAlchemy now considers the transaction ended. Closing the connection ends it in the database.
        connection.invalidate()
        raise TransactionControl()


class _Joined(Session):
    """A session in a savepoint of the task's transaction."""

    def __init__(self, transaction: Transaction, connection: Connection) -> None:
        super().__init__(bind=connection, join_transaction_mode="create_savepoint")
        self._transaction_of_task = transaction

    def get_bind(self, *arguments: Any, **options: Any) -> Any:
        """Check that the transaction can be used. Return the connection."""
        self._transaction_of_task.check()
        return super().get_bind(*arguments, **options)

    def commit(self) -> NoReturn:
        """Raise :class:`TransactionControl`."""
        raise TransactionControl()

    def rollback(self) -> NoReturn:
        """Raise :class:`TransactionControl`."""
        raise TransactionControl()

    def close(self) -> NoReturn:
        """Raise :class:`TransactionControl`."""
        raise TransactionControl()

    def begin(self, nested: bool = False) -> Any:
        """Set a savepoint if ``nested`` is true. Otherwise raise :class:`TransactionControl`."""
        if not nested:
            raise TransactionControl()
        return super().begin(nested=True)


def _is_ended_by_limit(error: DBAPIError) -> bool:
    """Return whether the time limit can cause ``error``: timeout, lost connection, interrupted statement."""
    return is_away(error) or getattr(error.orig, "sqlite_errorname", "") == "SQLITE_INTERRUPT"


def _controls(sql: str, only_first: bool) -> bool:
    """Return whether ``sql`` begins, ends or marks a transaction.

    Args:
        sql: one or more statements.
        only_first: whether the driver executes only one statement, as SQLite's does. The body of a trigger
            then contains further ones.
    """
    statements = [it for it in _OPAQUE.sub(" ", sql).split(";") if it.strip()]
    return any(map(_CONTROL.match, statements[:1] if only_first else statements))
