"""The ledger: what was executed and what was ordered, in SQL. It makes each execution effectively once.

A worker commits here before it acknowledges. So a message that is delivered again, because its
acknowledgement was lost with its worker, is found in the ledger and counted, not executed again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import URL, Connection, Engine, make_url, select, update
from sqlalchemy.exc import DBAPIError

from baozi import ledger_engine, ledger_schema, order_statements, recording, recording_statements
from baozi.errors import LedgerAway, NothingToAudit
from baozi.ledger_engine import PATIENCE, Patience
from baozi.ledger_schema import identity, orders
from baozi.model import Closing, Opening
from baozi.recording import Call, Done, Recording


class Ledger:
    """The ledger's tables, on SQLite or PostgreSQL. Make one in each process, after any fork."""

    def __init__(self, url: URL | str, patience: float = PATIENCE) -> None:
        """Use the ledger at ``url``. Nothing is opened yet.

        Args:
            url: SQLAlchemy's.
            patience: seconds that a statement may wait for another's lock or for the server.
        """
        self._patience = Patience(patience)
        self._engine = ledger_engine.connect(make_url(url), self._patience)
        self._writer = self._engine.execution_options(writes=True)
        self.file = Path(str(self._engine.url.database)) if self._engine.dialect.name == "sqlite" else None
        """SQLite's file; None on PostgreSQL."""
        self._reader = self._engine.execution_options(single=True)
        self._statements = recording_statements.of(self._engine.dialect.name)

    def open(self) -> Self:
        """Make the ledger if there is none, and see that this release can use and write it.

        Raises:
            LedgerAway: it cannot be reached or written; says why.
            SchemaTooOld: it must be upgraded first.
            SchemaTooNew: it is for newer releases only.
            NotALedger: the database has tables of these names that are not a ledger's.
        """
        self._make_folder()
        with self._writing() as connection:
            ledger_schema.make(connection)
            # An UPDATE of nothing still takes the write lock: read-only files and users are found here.
            connection.execute(update(orders).where(orders.c.run == "").values(accepted=0))
        return self

    def upgrade(self) -> int | None:
        """Bring the schema to the version that this release needs; make the ledger if there is none.

        Returns:
            The version it had before, or None where there was no ledger.

        Raises:
            LedgerError: as :meth:`open` says, but that it is too old.
        """
        self._make_folder()
        # A migration of many rows takes its time.
        with self._patience.changed_to(None), self._writing() as connection:
            return ledger_schema.upgrade(connection)

    def version(self) -> int:
        """Return the version of the ledger's schema, whether this release can use it or not.

        Raises:
            NothingToAudit: there is no ledger yet.
            LedgerAway: the ledger cannot be read.
            NotALedger: the database has tables of these names that are not a ledger's.
        """
        with self._connected() as connection:
            return ledger_schema.existing_version(connection)

    def identity(self) -> str:
        """Return the ledger's id, a UUID, which no other ledger has. A copy of a ledger has the same.

        Raises:
            LedgerError: as :meth:`reading` says.
        """
        with self.reading() as connection:
            return str(connection.execute(select(identity.c.id)).scalar_one())

    def queue(self) -> str | None:
        """Return the name of the queue to which this ledger belongs, or None if to none yet.

        Raises:
            LedgerError: as :meth:`reading` says.
        """
        with self.reading() as connection:
            owner: str | None = connection.execute(select(identity.c.queue)).scalar_one()
            return owner

    def claim(self, queue: str) -> str:
        """Make this ledger belong to ``queue`` if it belongs to none.

        Of several that claim it at the same time, one gets it.

        Returns:
            The name of the queue to which it belongs now.

        Raises:
            LedgerAway: it cannot be written.
        """
        with self._writing() as connection:
            connection.execute(update(identity).where(identity.c.queue.is_(None)).values(queue=queue))
            return str(connection.execute(select(identity.c.queue)).scalar_one())

    def give_to(self, queue: str) -> None:
        """Make this ledger belong to ``queue``, whatever it belonged to before.

        Raises:
            LedgerAway: it cannot be written.
        """
        with self._writing() as connection:
            connection.execute(update(identity).values(queue=queue))

    def _make_folder(self) -> None:
        if self.file is not None:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerAway(f"The ledger cannot be made at {self.file}: {error.strerror}.") from error

    @contextmanager
    def patient_for(self, seconds: float) -> Iterator[None]:
        """In this block wait at most ``seconds`` for a lock or the server, if that is less than usual."""
        with self._patience.changed_to(min(seconds, self._patience.seconds or seconds)):
            yield

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def recording(self, consumer: str, machine: str) -> Iterator[Recording]:
        """Yield a transaction that records what tasks did. It commits at the end of the block.

        If the block raises, everything is rolled back. If the commit's outcome is unknown, do all of it
        again: the claim tells whether it was committed.

        Args:
            consumer: the worker that records.
            machine: where it is.

        Raises:
            LedgerAway: the connection was lost or refused, or the database is busy, full or read-only.
            NameInUse: raised by the block's claim. The refusal is committed, and nothing else.
        """
        made: Recording | None = None
        failed: BaseException | None = None
        try:
            with ledger_engine.away_errors(), self._writer.begin() as connection:
                made = Recording(connection, self._statements, consumer, machine)
                try:
                    yield made
                except BaseException as error:
                    failed = error
                    raise
        except LedgerAway:
            # The connection is lost, so that there was nothing to roll back: the block's own error counts.
            if failed is None or isinstance(failed, DBAPIError):
                raise
            raise failed from None
        finally:
            if made is not None and made.refused:
                with self._writing() as connection:
                    recording.note_refused(connection, self._statements.insert, made.refused)

    def recorded(self, calls: Sequence[Call], consumer: str, machine: str) -> list[Done | None]:
        """Return what earlier deliveries of ``calls`` left. Of those that are done, a delivery is counted.

        This writes only if some call is done. Of several calls with one key that is not done, each is None.

        Args:
            calls: what is to be executed.
            consumer: the worker that asks.
            machine: where it is.

        Returns:
            For each call None if it is not done, or what an earlier delivery left.

        Raises:
            LedgerAway: as above.
            NameInUse: another order has the number of some call that is done. That is committed too.
        """
        if not calls:
            return []
        with self._connected(self._reader) as connection:
            known = recording.known(connection, self._statements, calls)
        found = [call for call, is_known in zip(calls, known, strict=True) if is_known]
        if not found:
            return [None] * len(calls)
        with self.recording(consumer, machine) as counting:
            answers = counting.claim(found)
            for call, answer in zip(found, answers, strict=True):
                # It was deleted in between.
                if answer is None:
                    counting.withdraw(call)
        left = iter([None if counting.withdrawn(c) else a for c, a in zip(found, answers, strict=True)])
        return [next(left) if is_known else None for is_known in known]

    def record_opening(self, opening: Opening) -> None:
        """Commit that an order is open, again or for the first time, until its session is closed.

        Raises:
            LedgerAway: as above.
        """
        with self._writing() as connection:
            connection.execute(order_statements.opening(self._statements.insert, opening))

    def record_order(self, order: Closing) -> None:
        """Commit a closed order. Of an order that was closed several times, the last session counts.

        An order without an id that is closed again, further on, grows; it never shrinks.

        Raises:
            LedgerAway: as above.
        """
        with self._writing() as connection:
            connection.execute(order_statements.closing(self._statements.insert, order))

    @contextmanager
    def deleting(self) -> Iterator[Connection]:
        """Yield a transaction that deletes, for as long as it takes. It commits at the end of the block.

        Raises:
            LedgerError: as :meth:`reading` says.
        """
        with self.reading():
            pass
        with self._patience.changed_to(None), self._writing() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection to read with; nothing is made where there is no ledger yet.

        Raises:
            NothingToAudit: nobody has opened this ledger yet, so it has no tables.
            SchemaTooOld: it must be upgraded first.
            SchemaTooNew: it is for newer releases only.
            NotALedger: the database has tables of these names that are not a ledger's.
            LedgerAway: the ledger cannot be read.
        """
        with self._connected() as connection:
            ledger_schema.check(connection)
            yield connection

    @contextmanager
    def _connected(self, engine: Engine | None = None) -> Iterator[Connection]:
        file = self.file
        if file is not None and not _exists(file):
            raise NothingToAudit(f"There is no ledger at {file} yet; a worker makes it when it starts.")
        with ledger_engine.ledger_errors(), (engine or self._engine).connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with ledger_engine.ledger_errors(), self._writer.begin() as connection:
            yield connection


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:
        raise LedgerAway(f"The ledger cannot be read at {file}: {error.strerror}.") from error
