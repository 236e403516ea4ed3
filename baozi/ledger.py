"""The ledger: the database that records executions and orders, so that each key takes effect once.

A worker commits to the ledger before it acknowledges the message. If the worker is killed in between, the
message is redelivered. The next worker finds its key in the ledger, and counts the delivery instead of
executing the message again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import URL, Connection, Engine, make_url, select, update
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from baozi import ledger_engine, ledger_schema, ledger_statements, recording
from baozi.errors import LedgerAway, NothingToAudit
from baozi.ledger_engine import PATIENCE, Patience
from baozi.ledger_schema import identity, orders
from baozi.model import Closing, Opening
from baozi.recording import Call, Done, Recording


class Ledger:
    """A ledger on SQLite or PostgreSQL. Each process makes its own object, after it was forked."""

    def __init__(self, url: URL | str, patience: float = PATIENCE) -> None:
        """Use the ledger at ``url``. No connection is opened yet.

        Args:
            url: an SQLAlchemy URL of an SQLite file or a PostgreSQL database.
            patience: seconds that a statement may wait for a lock or for the server's answer.
        """
        self._patience = Patience(patience)
        self._engine = ledger_engine.connect(make_url(url), self._patience)
        self._writer = self._engine.execution_options(writes=True)
        self.file = Path(str(self._engine.url.database)) if self._engine.dialect.name == "sqlite" else None
        """The file of an SQLite ledger; None on PostgreSQL."""
        self._reader = self._engine.execution_options(single=True)
        self._statements = ledger_statements.of(self._engine.dialect.name)

    def open(self) -> Self:
        """Create the ledger if there is none, check that this release can use it, and return this object.

        Raises:
            LedgerAway: the ledger cannot be reached or written. The message has the database's reason.
            SchemaTooOld: the ledger must be upgraded first.
            SchemaTooNew: the ledger needs a newer release.
            NotALedger: the database has other tables with the ledger's names.
        """
        self._make_folder()
        with self._writing() as connection:
            ledger_schema.make(connection)
            # An UPDATE of no rows also takes the write lock, so that a read-only file or user is found here.
            connection.execute(update(orders).where(orders.c.run == "").values(accepted=0))
        return self

    def upgrade(self) -> int | None:
        """Upgrade the schema to the version that this release needs. Create the ledger if there is none.

        Returns:
            The version before, or None if there was no ledger.

        Raises:
            LedgerAway: the ledger cannot be reached or written.
            SchemaTooNew: the ledger needs a newer release.
            NotALedger: the database has other tables with the ledger's names.
        """
        self._make_folder()
        # Without a timeout, because a migration of many rows takes long.
        with self._patience.changed_to(None), self._writing() as connection:
            return ledger_schema.upgrade(connection)

    def version(self) -> int:
        """Return the version of the ledger's schema, also if this release cannot use it.

        Raises:
            NothingToAudit: there is no ledger yet.
            LedgerAway: the ledger cannot be read.
            NotALedger: the database has other tables with the ledger's names.
        """
        with self._connected() as connection:
            return ledger_schema.existing_version(connection)

    def identity(self) -> str:
        """Return the ledger's id, a UUID. A copy of the ledger has the same id.

        Raises:
            LedgerError: the errors of :meth:`reading`.
        """
        with self.reading() as connection:
            return str(connection.execute(select(identity.c.id)).scalar_one())

    def queue(self) -> str | None:
        """Return the name of the queue to which this ledger belongs, or None if it belongs to none yet.

        Raises:
            LedgerError: the errors of :meth:`reading`.
        """
        with self.reading() as connection:
            owner: str | None = connection.execute(select(identity.c.queue)).scalar_one()
            return owner

    def claim(self, queue: str) -> str:
        """Make this ledger belong to ``queue`` if it belongs to no queue yet. Concurrent calls are safe.

        Returns:
            The name of the queue to which the ledger belongs now.

        Raises:
            LedgerAway: the ledger cannot be written.
        """
        with self._writing() as connection:
            connection.execute(update(identity).where(identity.c.queue.is_(None)).values(queue=queue))
            return str(connection.execute(select(identity.c.queue)).scalar_one())

    def give_to(self, queue: str) -> None:
        """Make this ledger belong to ``queue``, also if it belonged to another queue before.

        Raises:
            LedgerAway: the ledger cannot be written.
        """
        with self._writing() as connection:
            connection.execute(update(identity).values(queue=queue))

    def _make_folder(self) -> None:
        if self.file is not None:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerAway(
                    "The ledger cannot be made at {file}: {strerror}.",
                    file=self.file,
                    strerror=error.strerror,
                ) from error

    @contextmanager
    def patient_for(self, seconds: float) -> Iterator[None]:
        """In this block, wait at most ``seconds`` for a lock or the server, if that is less than usual."""
        with self._patience.changed_to(min(seconds, self._patience.seconds or seconds)):
            yield

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def recording(self, consumer: str, machine: str) -> Iterator[Recording]:
        """Yield a transaction that records executions. It commits at the end of the block.

        If the block raises, everything is rolled back. If the outcome of the commit is unknown, repeat the
        whole block: the claim then finds whether the first transaction was committed.

        Args:
            consumer: the name of the worker that records.
            machine: the name of the worker's machine.

        Raises:
            LedgerAway: the connection was lost or refused, or the database is busy, full or read-only.
            NameInUse: raised by :meth:`Recording.claim` in the block. Only the refused numbers are committed.
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
            # The connection was lost, so the rollback failed. Raise the block's own error instead.
            if failed is None or isinstance(failed, DBAPIError | PendingRollbackError):
                raise
            raise failed from None
        finally:
            if made is not None and made.refused:
                with self._writing() as connection:
                    recording.note_refused(connection, self._statements.insert, made.refused)

    def recorded(self, calls: Sequence[Call], consumer: str, machine: str) -> list[Done | None]:
        """Return the results of calls that earlier deliveries have done, and count a delivery for each.

        This writes only if at least one call is done.

        Args:
            calls: the calls to execute.
            consumer: the name of the worker.
            machine: the name of the worker's machine.

        Returns:
            For each call None if it is not done, or the result of an earlier delivery.

        Raises:
            LedgerAway: the ledger cannot be used.
            NameInUse: the number of some call belongs to another order. The refused numbers are committed.
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
                # The row was deleted between the two statements, by `baozi prune`.
                if answer is None:
                    counting.withdraw(call)
        left = iter([None if counting.withdrawn(c) else a for c, a in zip(found, answers, strict=True)])
        return [next(left) if is_known else None for is_known in known]

    def record_opening(self, opening: Opening) -> None:
        """Record in a separate transaction that an order is open.

        Raises:
            LedgerAway: the ledger cannot be written.
        """
        with self._writing() as connection:
            connection.execute(ledger_statements.opening(self._statements.insert, opening))

    def record_order(self, order: Closing) -> None:
        """Record in a separate transaction that an order is closed.

        If an order is closed several times, its last session counts. An order without an id has no sessions:
        the largest numbers count.

        Raises:
            LedgerAway: the ledger cannot be written.
        """
        with self._writing() as connection:
            connection.execute(ledger_statements.closing(self._statements.insert, order))

    @contextmanager
    def deleting(self) -> Iterator[Connection]:
        """Yield a transaction that deletes rows, without a timeout. It commits at the end of the block.

        Raises:
            LedgerError: the errors of :meth:`reading`.
        """
        with self.reading():
            pass
        with self._patience.changed_to(None), self._writing() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that reads one snapshot of the ledger. This never creates a ledger.

        Raises:
            NothingToAudit: there is no ledger yet.
            SchemaTooOld: the ledger must be upgraded first.
            SchemaTooNew: the ledger needs a newer release.
            NotALedger: the database has other tables with the ledger's names.
            LedgerAway: the ledger cannot be read.
        """
        with self._connected() as connection:
            ledger_schema.check(connection)
            yield connection

    @contextmanager
    def _connected(self, engine: Engine | None = None) -> Iterator[Connection]:
        file = self.file
        if file is not None and not _exists(file):
            raise NothingToAudit(
                "There is no ledger at {file} yet; a worker makes it when it starts.", file=file
            )
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
        raise LedgerAway(
            "The ledger cannot be read at {file}: {strerror}.", file=file, strerror=error.strerror
        ) from error
