"""A PostgreSQL server in a container, for tests and examples whose ledger is not SQLite."""

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_delay

from baozi.backoff import fixed_wait

_IMAGE = "postgres:18"
#: Seconds in which a new server must accept connections. They include the image's initdb.
_START = 60
#: Seconds between two tries to connect to a server that is starting.
_TRY_EVERY = 0.1


class PostgreSQLServer:
    """A PostgreSQL server on a port of 127.0.0.1."""

    def __init__(self) -> None:
        """Start the server, and wait until it accepts connections.

        Raises:
            subprocess.SubprocessError: Docker did not start the container.
            psycopg.OperationalError: the server did not accept connections in time.
        """
        self.password = secrets.token_urlsafe()
        self.name = f"baozi-postgresql-{secrets.token_hex(4)}"
        # Chosen here and not by the engine, so that the server has the same port after a restart.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        published = ["--publish", f"127.0.0.1:{self.port}:5432", "--env", "POSTGRES_PASSWORD"]
        try:
            _docker(
                "run", "--detach", "--name", self.name, *published, _IMAGE, POSTGRES_PASSWORD=self.password
            )
            self._wait()
        except BaseException:
            self.remove()
            raise

    def _wait(self) -> None:
        """Wait until it accepts connections over TCP. The temporary server of the image's initdb does not.

        Raises:
            psycopg.OperationalError: it did not in time.
        """
        starting = Retrying(
            retry=retry_if_exception_type(psycopg.OperationalError),
            wait=fixed_wait(_TRY_EVERY),
            stop=stop_after_delay(_START),
            reraise=True,
        )
        starting(self.connection).close()

    def connection(self) -> psycopg.Connection[tuple[object, ...]]:
        """Connect as the administrator."""
        return psycopg.connect(self.url("postgres"), connect_timeout=5, autocommit=True)

    def url(self, database: str, password: str | None = None) -> str:
        """Return the URL of ``database``, with the administrator's password or another."""
        return f"postgresql://postgres:{password or self.password}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server, and start it again at the end of the ``with`` block."""
        _docker("stop", "--time", "10", self.name)
        try:
            yield
        finally:
            _docker("start", self.name)
            self._wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server until the end of the block: it accepts connections, but it does not answer."""
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
