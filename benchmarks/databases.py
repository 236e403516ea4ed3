"""The databases of the measurements: a new SQLite file, or a new database on a PostgreSQL server, for each.

The server is that of a given URL, or a container that is started when the first measurement needs it.
"""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

from baozi.broker import engine
from baozi.ledger_url import file_url
from benchmarks.not_measured import NotMeasured
from side_by_side.postgresql import PostgreSQLServer

#: Seconds for a connection, and for a statement.
_CONNECT, _STATEMENT = 10, 60
_numbers = count()


class Database(Protocol):
    """A database of one measurement."""

    url: URL
    look_every: float
    """Seconds between two counts, so that they take little of the machine's time."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of ``query``; none if its table does not exist yet."""

    def close(self) -> None:
        """Close the connection."""


class SQLiteDatabase:
    """A file."""

    look_every = 0.05

    def __init__(self, file: Path) -> None:
        """Use ``file``, which need not exist."""
        self._file = file
        self.url = file_url(file)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of ``query``; none if its table does not exist yet, or is locked at the moment."""
        try:
            with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    def close(self) -> None:
        """Do nothing: each query opens the file."""


class PostgreSQLDatabase:
    """A database on a server."""

    # PostgreSQL counts by reading the whole table.
    look_every = 0.1

    def __init__(self, url: URL) -> None:
        """Connect to the database at ``url``."""
        self.url = url
        self._connection = _connected(url)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of ``query``; none if its table does not exist yet."""
        try:
            return self._connection.execute(query.encode()).fetchall()
        except psycopg.errors.UndefinedTable:
            return []

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class DatabaseServer:
    """A PostgreSQL server, which is only started or connected to when it is needed."""

    def __init__(self, url: str | None = None) -> None:
        """Use the server at ``url``, whose user can create databases. Default: a container."""
        self._url = make_url(url) if url else None
        self._container: PostgreSQLServer | None = None
        self._obstacle = ""
        self.version: str | None = None
        """The server's version; None if it was not used."""

    @contextmanager
    def database(self) -> Iterator[PostgreSQLDatabase]:
        """Create a database. At the end it is deleted.

        Raises:
            NotMeasured: there is no server. The reason is found once.
        """
        if self._obstacle:
            raise NotMeasured(self._obstacle)
        try:
            url = self._started()
            with closing(_connected(url)) as server:
                self.version = str(server.execute("SHOW server_version").fetchall()[0][0]).split()[0]
                name = f"baozi_bench_{next(_numbers)}"
                _drop(server, name)
                server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except (psycopg.Error, subprocess.SubprocessError, OSError) as error:
            self._obstacle = f"PostgreSQL cannot be used: {' '.join(str(error).split())[:200]}"
            raise NotMeasured(self._obstacle) from None
        database = PostgreSQLDatabase(url.set(database=name))
        try:
            yield database
        finally:
            database.close()
            with closing(_connected(url)) as server:
                _drop(server, name)

    def _started(self) -> URL:
        if self._url is None:
            if not engine.answers():
                self._obstacle = (
                    "there is no PostgreSQL: Docker does not answer, and --postgresql is not given"
                )
                raise NotMeasured(self._obstacle)
            self._container = PostgreSQLServer()
            self._url = make_url(self._container.url("postgres"))
        return self._url

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the container, if one was started."""
        if self._container is not None:
            self._container.remove()


def _connected(url: URL) -> psycopg.Connection[tuple[Any, ...]]:
    # Without a driver's name, as libpq has it.
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    options = f"-c statement_timeout={_STATEMENT * 1000}"
    return psycopg.connect(text, autocommit=True, connect_timeout=_CONNECT, options=options)


def _drop(server: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
