"""The bank: a database for each of the two apps, and the queries that check it at the end."""

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
    """The database of one app."""

    def __init__(self, url: str) -> None:
        """Create the tables in the database at ``url``, with the same amount in each account."""
        self.url = url
        self._engine = create_engine(url)
        metadata.create_all(self._engine)
        with self._engine.begin() as tx:
            tx.execute(insert(accounts), [{"id": number, "cents": START} for number in range(ACCOUNTS)])

    @property
    def address(self) -> tuple[str, int] | None:
        """The server's host and port. None for SQLite, which has no server."""
        url = make_url(self.url)
        return (url.host, url.port) if url.host and url.port else None

    def url_through(self, port: int) -> str:
        """Return the database's URL through a proxy on this ``port`` of loopback."""
        return make_url(self.url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    def rows(self) -> int:
        """Return the number of bookings."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(bookings)).scalar_one()

    def booked(self) -> int:
        """Return the number of payments that are booked at least once."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count(bookings.c.payment.distinct()))).scalar_one()

    def bookings(self) -> Counter[str]:
        """Return how often each payment is booked, by the payment's id."""
        count = select(bookings.c.payment, func.count()).group_by(bookings.c.payment)
        with self._engine.connect() as connection:
            return Counter({row[0]: row[1] for row in connection.execute(count)})

    def difference(self, seed: int, accepted: list[int]) -> int:
        """Return the cents by which the accounts, in total, differ from what ``accepted`` payments give."""
        expected = dict.fromkeys(range(ACCOUNTS), START)
        for number in accepted:
            one = payment(seed, number)
            expected[one["source"]] -= one["cents"]
            expected[one["target"]] += one["cents"]
        with self._engine.connect() as connection:
            found = {row.id: int(row.cents) for row in connection.execute(select(accounts))}
        return sum(abs(found[number] - cents) for number, cents in expected.items())

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


@contextmanager
def databases(kind: str | None, folder: Path, names: list[str]) -> Iterator[list[str]]:
    """Yield the URLs of new databases, on SQLite or on a PostgreSQL server that runs during the block.

    Args:
        kind: "postgresql" or "sqlite". Default: PostgreSQL if a Docker engine answers.
        folder: the folder for SQLite's files.
        names: the names of the databases.

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
