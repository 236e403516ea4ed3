"""Fixtures: new ledgers on SQLite, and on a real PostgreSQL in a container, each in a place of its own."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from psycopg import sql

from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from side_by_side.postgresql import PostgreSQLServer
from tests.requirements import need_engine

_databases = count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    """The server, one for all tests."""
    need_engine()
    server = PostgreSQLServer()
    yield server
    server.remove()


@pytest.fixture
def postgresql_url(postgresql: PostgreSQLServer) -> Iterator[str]:
    """The URL of a new, empty database."""
    name = f"test_{next(_databases)}"
    database = sql.Identifier(name)
    with postgresql.connection() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
    yield postgresql.url(name)
    with postgresql.connection() as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a ledger that is not there yet, nor its folder."""
    return file_url(tmp_path / "home" / "ledger.sqlite3").render_as_string()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new ledger, on each of the two databases."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """A new ledger, open, on each of the two databases."""
    made = Ledger(ledger_url).open()
    yield made
    made.close()


@pytest.fixture
def sqlite_ledger(sqlite_url: str) -> Iterator[Ledger]:
    """A new ledger, open, on SQLite."""
    made = Ledger(sqlite_url).open()
    yield made
    made.close()
