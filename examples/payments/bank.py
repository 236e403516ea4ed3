"""The bank's books: a database for each of the two apps, and what the books say at the end."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import SubprocessError

from baozi.broker import engine
from baozi.errors import LedgerError, UsageError
from baozi.ledger_url import file_url
from examples.payments.transfer import ACCOUNTS, START, accounts, bookings, metadata, payment
from psycopg import OperationalError
from side_by_side.postgresql import PostgreSQLServer
from sqlalchemy import create_engine, func, insert, make_url, select


class Bank:
    """One database."""

    def __init__(self, url: str) -> None:
        """Make the tables at ``url``, with the same money in each account."""
        self.url = url
        self._engine = create_engine(url)
        metadata.create_all(self._engine)
        with self._engine.begin() as tx:
            tx.execute(insert(accounts), [{"id": number, "cents": START} for number in range(ACCOUNTS)])

    @property
    def address(self) -> tuple[str, int] | None:
        """Where its server listens; None for SQLite, which has none."""
        url = make_url(self.url)
        return (url.host, url.port) if url.host and url.port else None

    def url_through(self, port: int) -> str:
        """The URL of the same database behind a proxy on ``port`` of loopback."""
        return make_url(self.url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    def rows(self) -> int:
        """How many bookings there are."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(bookings)).scalar_one()

    def booked(self) -> int:
        """How many payments are booked, however often."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count(bookings.c.payment.distinct()))).scalar_one()

    def bookings(self) -> Counter[str]:
        """How often each payment is booked."""
        count = select(bookings.c.payment, func.count()).group_by(bookings.c.payment)
        with self._engine.connect() as connection:
            return Counter({row[0]: row[1] for row in connection.execute(count)})

    def difference(self, seed: int, accepted: list[int]) -> int:
        """Cents, of all accounts together, by which they differ from what ``accepted`` makes of them."""
        expected = dict.fromkeys(range(ACCOUNTS), START)
        for number in accepted:
            one = payment(seed, number)
            expected[one["source"]] -= one["cents"]
            expected[one["target"]] += one["cents"]
        with self._engine.connect() as connection:
            found = {row.id: int(row.cents) for row in connection.execute(select(accounts))}
        return sum(abs(found[number] - cents) for number, cents in expected.items())

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()


@contextmanager
def databases(kind: str | None, folder: Path, names: list[str]) -> Iterator[list[str]]:
    """Yield the URLs of new databases: of a PostgreSQL that runs until the end of the block, or SQLite's.

    Args:
        kind: "postgresql" or "sqlite"; default: PostgreSQL where a Docker engine answers.
        folder: where SQLite's files are to be.
        names: the databases'.

    Raises:
        UsageError: there is no Docker engine for PostgreSQL.
        LedgerError: PostgreSQL did not start.
    """
    if kind == "sqlite" or (kind is None and not engine.answers()):
        yield [file_url(folder / f"{name}.sqlite3").render_as_string() for name in names]
        return
    if not engine.answers():
        raise UsageError("PostgreSQL runs in a container here, and no Docker engine answers.")
    try:
        server = PostgreSQLServer()
    except (SubprocessError, OperationalError) as error:
        raise LedgerError(f"PostgreSQL did not start in a container: {error}.") from error
    try:
        with server.connection() as connection:
            for name in names:
                connection.execute(f"CREATE DATABASE {name}".encode())
        yield [server.url(name) for name in names]
    finally:
        server.remove()
