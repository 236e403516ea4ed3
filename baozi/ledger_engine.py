"""Opens connections to the ledger's database: each wait has a timeout, and each commit is on disk.

It also says which database errors mean that the ledger is temporarily unavailable ("away").
"""

import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.generators import fetch_many
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, PendingRollbackError, SQLAlchemyError

from baozi.errors import LedgerAway, OnTheNetwork
from baozi.file_systems import network_file_system

Result = TypeVar("Result")

#: Seconds that a statement may wait for a lock, or for the server's answer. After that it raises an error,
#: and a caller that can wait longer tries again.
PATIENCE = 5.0
#: Seconds that this process waits longer than the server, so that the server's error, which has the reason,
#: comes first.
_GRACE = 1.0
#: Seconds between two attempts to change the journal mode of a new file. The change takes milliseconds.
_POLL_EVERY = 0.02
#: Makes a commit return only when it is on the server's disk, whatever the server's configuration says.
_ON_DISK = (
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)"
)
#: TCP keepalive: seconds without data before the first probe, seconds between two probes, number of probes.
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}


#: SQLite's primary result codes for: busy, locked, a full, read-only or failing disk, a file that cannot be
#: opened, no memory.
_AWAY_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
#: Classes of PostgreSQL's SQLSTATE: connection lost or refused (08), invalid role or password (28),
#: insufficient resources, such as a full disk or too many connections (53), an operator's intervention or a
#: timeout (57), an error of the server's system (58), of its configuration file (F0). Source: PostgreSQL's
#: manual, appendix "PostgreSQL Error Codes".
_AWAY_CLASSES = {"08", "28", "53", "57", "58", "F0"}
#: Further SQLSTATEs: read-only transaction, no such database, lock timeout, serialization failure, deadlock,
#: unknown outcome of a statement, idle session timeout, transaction timeout.
_AWAY_STATES = {"25006", "3D000", "55P03", "40001", "40P01", "40003", "25P03", "25P04"}


def is_away(error: DBAPIError) -> bool:
    """Return whether ``error`` means that the database is temporarily unavailable, whatever the statement.

    Such errors are: a lost or refused connection, a timeout of a lock or a statement, a busy, full, failing
    or read-only database, a server that starts or stops, a deadlock, a failed serialization. The transaction
    may succeed if it is repeated. All other errors are caused by the statement.
    """
    original = error.orig
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", None)
        # The lower byte is the result code, the rest its extension.
        return code is not None and code & 0xFF in _AWAY_SQLITE
    if isinstance(original, psycopg.Error):
        state = original.sqlstate
        if state is None:
            # No SQLSTATE means that the server sent no error: the connection is lost.
            return isinstance(original, psycopg.OperationalError) or error.connection_invalidated
        return state[:2] in _AWAY_CLASSES or state in _AWAY_STATES
    return error.connection_invalidated


def _mark(context: ExceptionContext) -> None:
    if context.sqlalchemy_exception is not None:
        setattr(context.sqlalchemy_exception, _OF_LEDGER, True)


#: The name of an attribute that marks the errors of the ledger's own connections.
_OF_LEDGER = "of_ledger"


def is_ledger_away(error: BaseException) -> bool:
    """Return whether ``error`` means that the ledger, and not another database of a task, is unavailable."""
    return isinstance(error, DBAPIError) and hasattr(error, _OF_LEDGER) and is_away(error)


@contextmanager
def away_errors() -> Iterator[None]:
    """In this block, replace errors for which :func:`is_away` is true by :class:`LedgerAway`.

    So is the error if a lost connection is used. All other errors are raised unchanged: they are errors of a
    task's own SQL.
    """
    try:
        yield
    except DBAPIError as error:
        if is_away(error):
            raise _away(error.orig) from error
        raise
    except PendingRollbackError as error:
        # An earlier statement lost the connection, and its error was the error of one task.
        raise LedgerAway("The ledger cannot be used: {reason}.", reason="the connection was lost") from error


@contextmanager
def ledger_errors() -> Iterator[None]:
    """In this block, replace all errors of the ledger's own SQL, except those of a value, by LedgerAway.

    A missing table or permission is not an error of the message. The message waits until the ledger is
    repaired.
    """
    try:
        yield
    except (DataError, IntegrityError):
        raise
    except DBAPIError as error:
        raise _away(error.orig) from error
    except SQLAlchemyError as error:
        raise _away(error) from error


def _away(error: BaseException | None) -> LedgerAway:
    lines = str(error).strip().splitlines()
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    return LedgerAway("The ledger cannot be used: {reason}.", reason=reason)


class Patience:
    """The timeout for each wait of an engine's connections. It can be changed while they are open."""

    def __init__(self, seconds: float) -> None:
        """Set the timeout to so many ``seconds``."""
        self.seconds: float | None = seconds
        """Seconds to wait for a lock or for the server's answer; None for no limit."""

    @contextmanager
    def changed_to(self, seconds: float | None) -> Iterator[None]:
        """In this block, use a timeout of so many ``seconds``; None for no limit."""
        before, self.seconds = self.seconds, seconds
        try:
            yield
        finally:
            self.seconds = before


def connect(url: URL, patience: Patience) -> Engine:
    """Return an engine for the ledger at ``url``. It connects when it is first used.

    Its connections have two execution options. ``writes``: the transaction writes, and takes SQLite's write
    lock at its beginning. ``single``: the block executes one statement that reads, without a transaction.

    Args:
        url: the URL of an SQLite file or a PostgreSQL database.
        patience: the timeout for each wait.

    Raises:
        sqlalchemy.exc.ArgumentError: ``url`` is invalid.
        OnTheNetwork: raised at the first use, if an SQLite file is on a network file system.
    """
    engine = _sqlite(url, patience) if url.get_backend_name() == "sqlite" else _postgresql(url, patience)
    event.listen(engine, "handle_error", _mark)
    return engine


def _sqlite(url: URL, patience: Patience) -> Engine:
    engine = create_engine(url, connect_args={"timeout": patience.seconds or PATIENCE})

    def check_file_is_local(*_: object) -> None:
        file = Path(str(url.database))
        network = network_file_system(file)
        if network is not None:
            raise OnTheNetwork(
                "The ledger's file {file} is on a network file system ({network}), and SQLite works"
                " on one machine only. Set BAOZI_LEDGER_URL to a file on a local disk, or to a"
                " PostgreSQL database.",
                file=file,
                network=network,
            )

    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        # The listener below begins the transactions. The driver would begin one only at the first change.
        connection.isolation_level = None
        # WAL: readers and the writer do not wait for each other. FULL: a commit is on the disk when it
        # returns. With NORMAL, a power failure may lose the last commits (SQLite, "Write-Ahead Logging").
        _switch_to_wal(connection, patience.seconds or PATIENCE)
        connection.execute("PRAGMA synchronous=FULL")

    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes cannot wait for another writer: SQLite refuses it at
        # once. So a transaction that writes takes the lock at its beginning. One that only reads takes none.
        if not _is_single(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")

    event.listen(engine, "do_connect", check_file_is_local)
    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", begin)
    return engine


def _switch_to_wal(connection: sqlite3.Connection, patience: float) -> None:
    # SQLite refuses this change at once, whatever the timeout, while another process writes to a file that is
    # not in WAL mode yet. Without the loop, one of two workers that create the ledger together could fail.
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_EVERY)


def _postgresql(url: URL, patience: Patience) -> Engine:
    # Options of the URL take precedence. PgBouncer in transaction mode refuses startup options and confuses
    # prepared statements, so neither is used.
    defaults: dict[str, Any] = {
        "autocommit": True,  # the listener below begins transactions
        "prepare_threshold": None,
        **{name: value for name, value in _KEEPALIVE.items() if name not in url.query},
    }
    engine = create_engine(url.set(drivername="postgresql+psycopg"), connect_args=defaults)

    def do_connect(_dialect: object, _record: object, arguments: Any, options: dict[str, Any]) -> Any:
        seconds = patience.seconds or PATIENCE
        options.setdefault("connect_timeout", max(1, round(seconds)))
        # For data that the host does not acknowledge, because it has no power or the network is cut.
        options.setdefault("tcp_user_timeout", round((seconds + _GRACE) * 1000))
        connection = _BoundedConnection.connect(*arguments, **options)
        connection.patience = patience
        return connection

    def begin(connection: Connection) -> None:
        # A single statement that reads waits for no row lock. _BoundedConnection limits its time.
        if _is_single(connection):
            return
        statement = _beginning(_writes(connection), patience.seconds)
        # Without parameters, psycopg sends all statements in one message.
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

    event.listen(engine, "do_connect", do_connect)
    event.listen(engine, "begin", begin)
    return engine


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("writes", False))


def _is_single(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("single", False))


def _beginning(writes: bool, patience: float | None) -> str:
    """Return the SQL that begins a transaction and sets its timeouts, for one round trip to the server.

    The settings end with the transaction, so that a connection pooler does not give them to another client.

    Args:
        writes: whether the transaction writes.
        patience: the timeout in seconds; None for no limit.
    """
    server_s = 0 if patience is None else round(patience * 1000)
    settings = [
        f"SET LOCAL statement_timeout = {server_s}",
        f"SET LOCAL lock_timeout = {round(PATIENCE * 1000) if patience is None else server_s}",
    ]
    if not writes:
        # All statements of an audit read one snapshot, as they always do in SQLite.
        return "; ".join(["BEGIN ISOLATION LEVEL REPEATABLE READ", *settings])
    return "; ".join(["BEGIN", *settings, _ON_DISK])


class _BoundedConnection(psycopg.Connection[Any]):
    """A psycopg connection with a timeout for the server's answer. libpq waits while the host is alive."""

    patience: Patience | None = None

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **options: Any) -> Result:
        """Wait for the server like psycopg, but with a timeout.

        Raises:
            psycopg.OperationalError: the server did not answer in time. The connection is closed, and the
                outcome of a commit is unknown.
        """
        try:
            return super().wait(self._bounded(gen), *args, **options)
        except psycopg.Error:
            raise
        except Exception:
            # A signal handler raised it, as for a task's soft time limit. psycopg cancels the statement only
            # at Ctrl-C. While the statement runs, the connection refuses all others, also a rollback.
            self._cancel_statement()
            raise

    def _cancel_statement(self) -> None:
        """Cancel the statement that runs. Close the connection if the server does not answer in time."""
        if self.info.transaction_status is not TransactionStatus.ACTIVE:
            return
        try:
            self.cancel_safe(timeout=_GRACE)
            super().wait(self._bounded(fetch_many(self.pgconn)))
        except psycopg.Error:
            self.close()

    def _bounded(self, exchange: Generator[Any, Any, Result]) -> Generator[Any, Any, Result]:
        seconds = self.patience.seconds if self.patience else PATIENCE
        if seconds is None:
            return (yield from exchange)
        deadline = time.monotonic() + seconds + _GRACE
        try:
            wanted = next(exchange)
            while True:
                # psycopg resumes this every 0.1 s with nothing ready, so that the deadline can be checked.
                ready = yield wanted
                if not ready and time.monotonic() >= deadline:
                    self.close()
                    raise psycopg.OperationalError(f"the server did not answer within {seconds + _GRACE:g} s")
                wanted = exchange.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result
