"""Fixtures: new ledgers on SQLite, and on a real PostgreSQL in a container, each in a place of its own."""

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from tests.requirements import need_engine
from tests.waiting import wait_until

_IMAGE = "postgres:18"
#: Seconds until a new server must accept connections, the image's initdb included.
_START = 60

_databases = count()


class Server:
    """A PostgreSQL server on a port of 127.0.0.1."""

    def __init__(self) -> None:
        """Start it, and wait until it accepts connections."""
        self.password = secrets.token_urlsafe()
        self.name = f"baozi-tests-{secrets.token_hex(4)}"
        # Chosen here, not by the engine: a server that is started again keeps it.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        published = ["--publish", f"127.0.0.1:{self.port}:5432", "--env", "POSTGRES_PASSWORD"]
        try:
            _docker(
                "run", "--detach", "--name", self.name, *published, _IMAGE, POSTGRES_PASSWORD=self.password
            )
            wait_until(self._accepts, "PostgreSQL to accept connections", timeout=_START)
        except BaseException:
            self.remove()
            raise

    def _accepts(self) -> bool:
        # Over TCP, which the image's first, temporary server does not listen on.
        try:
            with self.connection():
                return True
        except psycopg.OperationalError:
            return False

    def connection(self) -> psycopg.Connection[tuple[object, ...]]:
        """Connect as the administrator."""
        return psycopg.connect(self.url("postgres"), connect_timeout=5, autocommit=True)

    def url(self, database: str, password: str | None = None) -> str:
        """The URL of ``database``, with another password if one is given."""
        return f"postgresql://postgres:{password or self.password}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server, and start it again at the end."""
        _docker("stop", "--time", "10", self.name)
        try:
            yield
        finally:
            _docker("start", self.name)
            wait_until(self._accepts, "PostgreSQL to accept connections again", timeout=_START)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server: its host answers, and it does not. It goes on at the end."""
        _docker("pause", self.name)
        try:
            yield
        finally:
            _docker("unpause", self.name)

    def remove(self) -> None:
        """Remove the container and its data."""
        _docker("rm", "--force", "--volumes", self.name)


def _docker(*arguments: str, **variables: str) -> None:
    subprocess.run(
        ["docker", *arguments],
        env={**os.environ, **variables},
        check=True,
        timeout=300,
        stdout=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """The server, one for all tests."""
    need_engine()
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def postgresql_url(postgresql: Server) -> Iterator[str]:
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
