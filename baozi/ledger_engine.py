"""Connections to the ledger's database, with a timeout for each wait. Each commit is on disk."""

import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from baozi.errors import LedgerAway, OnTheNetwork
from baozi.file_systems import network_file_system

Result = TypeVar("Result")

#: Seconds that a statement may wait for another's lock, or for a server to answer, before it is an error.
#: A caller that can wait longer tries again.
PATIENCE = 5.0
#: Seconds that a server may take longer than that, so that its own error, which says why, comes first.
_GRACE = 1.0
#: Seconds between two tries to change the mode of a new file, which takes milliseconds.
_POLL_EVERY = 0.02
#: A commit returns when it is on the server's disk, also where the server's configuration says otherwise.
_ON_DISK = (
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)"
)
#: Seconds of silence after which the kernel asks whether a server's host is there, and between two questions;
#: the number of questions.
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}


#: Result codes of SQLite, without their extension: busy, locked, a full, read-only or failing disk, a file
#: that cannot be opened, no memory.
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
#: Classes of PostgreSQL's SQLSTATE: connection lost or refused (08), no such role or password (28),
#: insufficient resources such as a full disk or too many connections (53), an administrator's or a timeout's
#: intervention (57), the server's disk (58), the server's configuration file (F0).
_AWAY_CLASSES = {"08", "28", "53", "57", "58", "F0"}
#: Single ones: a transaction or a server that only reads, no such database, lock timeout, serialization
#: failure, deadlock, unknown completion, a session or a transaction that took too long.
_AWAY_STATES = {"25006", "3D000", "55P03", "40001", "40P01", "40003", "25P03", "25P04"}


def is_away(error: DBAPIError) -> bool:
    """Return whether ``error`` says that the database is away for now, whatever the SQL.

    That is a lost or refused connection, a timeout of a lock or a statement, a busy, full, failing or
    read-only database, a server that starts or stops, a deadlock or a failed serialization. The transaction
    may succeed if it is done again. Every other error is the statement's own.
    """
    original = error.orig
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", None)
        # The lower byte is the result code, the rest its extension.
        return code is not None and code & 0xFF in _AWAY_SQLITE
    if isinstance(original, psycopg.Error):
        state = original.sqlstate
        if state is None:
            # The server said nothing: there is no connection.
            return isinstance(original, psycopg.OperationalError) or error.connection_invalidated
        return state[:2] in _AWAY_CLASSES or state in _AWAY_STATES
    return error.connection_invalidated


def _mark(context: ExceptionContext) -> None:
    if context.sqlalchemy_exception is not None:
        setattr(context.sqlalchemy_exception, _OF_LEDGER, True)


#: An attribute of errors on the ledger's own connections.
_OF_LEDGER = "of_ledger"


def is_ledger_away(error: BaseException) -> bool:
    """Return whether ``error`` says that the ledger is away, and not another database that a task uses."""
    return isinstance(error, DBAPIError) and hasattr(error, _OF_LEDGER) and is_away(error)


@contextmanager
def away_errors() -> Iterator[None]:
    """Raise :class:`LedgerAway` for an error that says so. Others, of a task's own SQL, stay as they are."""
    try:
        yield
    except DBAPIError as error:
        if is_away(error):
            raise _away(error.orig) from error
        raise


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Raise :class:`LedgerAway` for each error of the ledger's own SQL, but for those of a value.

    A missing table or permission is not a message's fault: the message waits until the ledger is repaired.
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
    return LedgerAway(f"The ledger cannot be used: {reason}.")


class Patience:
    """The timeout of one exchange with the database. It may be changed in between."""

    def __init__(self, seconds: float) -> None:
        """Set the timeout in seconds."""
        self.seconds: float | None = seconds
        """For a server's answer; None for no bound."""

    @contextmanager
    def changed_to(self, seconds: float | None) -> Iterator[None]:
        """Use a timeout of so many seconds in this block."""
        before, self.seconds = self.seconds, seconds
        try:
            yield
        finally:
            self.seconds = before


def connect(url: URL, patience: Patience) -> Engine:
    """Return an engine for the ledger at ``url``; it connects when it is first used.

    A transaction that writes begins with the execution option ``writes``. With the option ``single`` a block
    is one statement that reads, which needs no transaction around it.

    Raises:
        sqlalchemy.exc.ArgumentError: ``url`` is not one of a ledger.
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
                f"The ledger's file {file} is on a network file system ({network}), and SQLite works on one"
                " machine only. Set BAOZI_LEDGER_URL to a file on a local disk, or to a PostgreSQL database."
            )

    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin a transaction only at the first change; the listener below begins it.
        connection.isolation_level = None
        # WAL: readers and the writer do not wait for each other. FULL: a commit is on the disk when it
        # returns, even if the power fails, which WAL's usual NORMAL does not promise (SQLite,
        # "Write-Ahead Logging").
        _switch_to_wal(connection, patience.seconds or PATIENCE)
        connection.execute("PRAGMA synchronous=FULL")

    def begin(connection: Connection) -> None:
        # A transaction that starts as a reader and then writes cannot wait for another writer, it fails at
        # once: take the lock first. An audit only reads, and holds nobody up.
        if not _is_single(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")

    event.listen(engine, "do_connect", check_file_is_local)
    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", begin)
    return engine


def _switch_to_wal(connection: sqlite3.Connection, patience: float) -> None:
    # While another writes to a file that is not in WAL mode yet, SQLite refuses the change at once, whatever
    # the timeout: of workers that start together on a new ledger, one would fail.
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
    # Options of the URL come first. Nothing is set by startup options, and nothing is prepared on the server:
    # PgBouncer in transaction mode refuses the first, and mixes up the second.
    defaults: dict[str, Any] = {
        "autocommit": True,  # the listener below begins transactions
        "prepare_threshold": None,
        **{name: value for name, value in _KEEPALIVE.items() if name not in url.query},
    }
    engine = create_engine(url.set(drivername="postgresql+psycopg"), connect_args=defaults)

    def do_connect(_dialect: object, _record: object, arguments: Any, options: dict[str, Any]) -> Any:
        seconds = patience.seconds or PATIENCE
        options.setdefault("connect_timeout", max(1, round(seconds)))
        # Data that a host does not acknowledge: it lost its power, or the network is cut.
        options.setdefault("tcp_user_timeout", round((seconds + _GRACE) * 1000))
        connection = _BoundedConnection.connect(*arguments, **options)
        connection.patience = patience
        return connection

    def begin(connection: Connection) -> None:
        # A statement that only reads waits for no lock of a row. _BoundedConnection bounds its time.
        if _is_single(connection):
            return
        statement = _beginning(_writes(connection), patience.seconds)
        # Without parameters psycopg sends all of it at once.
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

    event.listen(engine, "do_connect", do_connect)
    event.listen(engine, "begin", begin)
    return engine


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("writes", False))


def _is_single(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("single", False))


def _beginning(writes: bool, patience: float | None) -> str:
    """Return the SQL that begins a transaction, in one exchange.

    Its settings end with the transaction, so that a pooler cannot pass them on to another client.
    """
    server_s = 0 if patience is None else round(patience * 1000)
    settings = [
        f"SET LOCAL statement_timeout = {server_s}",
        f"SET LOCAL lock_timeout = {round(PATIENCE * 1000) if patience is None else server_s}",
    ]
    if not writes:
        # One snapshot for all that an audit reads, as SQLite's transactions have anyway.
        return "; ".join(["BEGIN ISOLATION LEVEL REPEATABLE READ", *settings])
    return "; ".join(["BEGIN", *settings, _ON_DISK])


class _BoundedConnection(psycopg.Connection[Any]):
    """A connection with a timeout for the server's answer. libpq waits as long as the host is alive."""

    patience: Patience | None = None

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **options: Any) -> Result:
        """Wait as psycopg does, but not for ever.

        Raises:
            psycopg.OperationalError: the server did not answer in time. The connection is closed, and the
                outcome of a commit is unknown.
        """
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, exchange: Generator[Any, Any, Result]) -> Generator[Any, Any, Result]:
        seconds = self.patience.seconds if self.patience else PATIENCE
        if seconds is None:
            return (yield from exchange)
        deadline = time.monotonic() + seconds + _GRACE
        try:
            wanted = next(exchange)
            while True:
                # Nothing is ready after psycopg's interval, a tenth of a second.
                ready = yield wanted
                if not ready and time.monotonic() >= deadline:
                    self.close()
                    raise psycopg.OperationalError(f"the server did not answer within {seconds + _GRACE:g} s")
                wanted = exchange.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result
