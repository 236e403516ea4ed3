"""One transaction of the ledger, which records executions: each key of a task once.

A key is claimed by an insert in the table ``done``. On PostgreSQL a concurrent delivery with the same key
waits for that insert. On SQLite only one transaction writes at a time. So when a claim returns, an earlier
delivery either has committed, and its result is known, or has left nothing.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, delete, update

from baozi.errors import NameInUse, TransactionOver
from baozi.language import Sentence
from baozi.ledger_engine import ledger_errors
from baozi.ledger_schema import done, eaten, refused
from baozi.ledger_statements import DoneRow, EatenRow, Insert, Statements
from baozi.model import NO_ORDER, Baozi


class Call(NamedTuple):
    """One execution of one task for one message."""

    task: str
    """The task's name."""
    key: str
    """The key, at most 255 characters. Calls of one task with the same key are the same call."""
    baozi: Baozi | None = None
    """Its run, producer and number, if the message belongs to an order."""
    order_id: str = NO_ORDER
    """The id of the order that its message names."""

    @property
    def id(self) -> tuple[str, str]:
        """The primary key in the table ``done``."""
        return self.task, self.key


class Done(NamedTuple):
    """The result of an earlier delivery."""

    result: str | None
    """The result as JSON; None for None."""


class Recording:
    """An open transaction of the ledger. :meth:`baozi.ledger.Ledger.recording` makes it."""

    def __init__(self, connection: Connection, statements: Statements, consumer: str, machine: str) -> None:
        """Record on ``connection``.

        Args:
            connection: a connection to the ledger, in a transaction that writes.
            statements: the statements for its database.
            consumer: the name of the worker that records.
            machine: the name of the worker's machine.
        """
        self.connection = connection
        self.refused: list[EatenRow] = []
        """Rows for the table ``refused``: calls whose number belongs to another order."""
        self._statements = statements
        self._who = consumer, machine
        #: The baozi that this transaction inserted in ``eaten``, by the id of their call.
        self._inserted: dict[tuple[str, str], list[str]] = {}
        self._withdrawn: set[tuple[str, str]] = set()

    def claim(self, calls: Sequence[Call]) -> list[Done | None]:
        """Claim the key of each call. Count a delivery of each call that an earlier delivery has done.

        If several calls have the same key, the first one claims it, and the others get ``Done(None)``. If the
        first one then fails, the others are not done: see :meth:`withdrawn`.

        Args:
            calls: the calls to execute. Pass all calls of a batch at once, because the claims are sorted.

        Returns:
            For each call None if it must be executed now, or the result of an earlier delivery. A call whose
            baozi was eaten by a worker of an older release gets ``Done(None)``.

        Raises:
            NameInUse: the number of some call belongs to another order. The transaction is rolled back.
            LedgerAway: the ledger cannot be used. Leave the block, and repeat all of it later.
            sqlalchemy.exc.DataError: the database cannot store a key.
        """
        now = time.time()
        return self._enter(calls, {call.id: (None, now) for call in calls})

    def record(self, results: Sequence[tuple[Call, str | None, float]]) -> list[Done | None]:
        """Claim and finish calls in one step, because they were executed before their claim.

        Args:
            results: each call with its result as JSON and its time (epoch seconds).

        Returns:
            For each call None if it is new, or the result of an earlier delivery.

        Raises:
            NameInUse: the number of some call belongs to another order. The transaction is rolled back.
            LedgerAway: the ledger cannot be used. Leave the block, and repeat all of it later.
            sqlalchemy.exc.DataError: the database cannot store a key or a result.
        """
        # If several results have the same key, the first one counts.
        outcomes = {call.id: (result, at) for call, result, at in reversed(results)}
        return self._enter([call for call, _, _ in results], outcomes)

    def finish(self, results: Sequence[tuple[Call, str | None, float]]) -> None:
        """Store the results of calls that this transaction claimed.

        Args:
            results: each call with its result as JSON and its time (epoch seconds).

        Raises:
            TransactionOver: the transaction has ended, so that the claims are lost. Nothing is stored.
            sqlalchemy.exc.DBAPIError: the database refuses a statement.
        """
        if not results:
            return
        transaction = self.connection.get_transaction()
        if transaction is None or not transaction.is_active:
            raise TransactionOver()
        rows = [{"of": call.task, "by": call.key, "result": result, "at": at} for call, result, at in results]
        times = [{"id": call.baozi.id, "at": at} for call, _, at in results if call.baozi]
        stored = self.connection.execute(_STORE, rows, execution_options={"preserve_rowcount": True})
        if stored.rowcount != len(rows):
            # Some errors end a transaction of SQLite. What was executed after that has committed by itself.
            raise TransactionOver()
        if times:
            self.connection.execute(_STORE_TIME, times)

    @contextmanager
    def savepoint(self, call: Call) -> Iterator[None]:
        """If the block raises, roll back its changes and the claim of ``call``.

        Args:
            call: the call that the block executes, and that this transaction has claimed.
        """
        try:
            with self.connection.begin_nested():
                yield
        except BaseException:
            transaction = self.connection.get_transaction()
            if transaction is not None and transaction.is_active and not self.connection.invalidated:
                self.withdraw(call)
            raise

    def withdraw(self, call: Call) -> None:
        """Delete the claim of ``call``, and the rows that this transaction wrote for calls with its key."""
        if call.id in self._withdrawn:
            return
        self.connection.execute(delete(done).where(done.c.task == call.task, done.c.key == call.key))
        inserted = self._inserted.pop(call.id, [])
        if inserted:
            self.connection.execute(delete(eaten).where(eaten.c.baozi_id.in_(inserted)))
        self._withdrawn.add(call.id)

    def withdrawn(self, call: Call) -> bool:
        """Return whether the claim of the call's key was deleted. Then no call with that key is done."""
        return call.id in self._withdrawn

    def _enter(
        self, calls: Sequence[Call], outcomes: dict[tuple[str, str], tuple[str | None, float]]
    ) -> list[Done | None]:
        if not calls:
            return []
        # An error of these statements is an error of the ledger, not of the task.
        with ledger_errors():
            earlier, new = self._enter_rows(calls, outcomes)
        answers: list[Done | None] = []
        first: set[tuple[str, str]] = set()
        for call in calls:
            mine = call.id not in first and earlier[call.id] is None
            if call.baozi is not None:
                baozi_id = call.baozi.id
                if baozi_id in new:
                    new.remove(baozi_id)
                    self._inserted.setdefault(call.id, []).append(baozi_id)
                else:
                    mine = False
            first.add(call.id)
            answers.append(None if mine else earlier[call.id] or Done(None))
        return answers

    def _enter_rows(
        self, calls: Sequence[Call], outcomes: dict[tuple[str, str], tuple[str | None, float]]
    ) -> tuple[dict[tuple[str, str], Done | None], set[str]]:
        """Insert each key and each baozi. For those that exist already, count the deliveries.

        Returns:
            For each key the result of an earlier delivery, or None; and the ids of the baozi that are new.
        """
        counts = Counter(call.id for call in calls)
        # Sorted: otherwise two workers with the same two keys could deadlock in PostgreSQL.
        done_rows = [DoneRow.of(id_, *outcomes[id_], *self._who, counts[id_]) for id_ in sorted(counts)]
        eaten_rows = self._eaten_rows(calls, outcomes)
        known_done, known_eaten = self._statements.insert_new(self.connection, done_rows, eaten_rows)
        earlier: dict[tuple[str, str], Done | None] = dict.fromkeys(counts)
        new = {row.baozi_id for row in eaten_rows}
        if known_done:
            earlier |= self._count_done(known_done)
        if known_eaten:
            new -= self._count_eaten(known_eaten)
        return earlier, new

    def _eaten_rows(
        self, calls: Sequence[Call], outcomes: dict[tuple[str, str], tuple[str | None, float]]
    ) -> list[EatenRow]:
        """Return a row for each different baozi of ``calls``, sorted by id."""
        rows: dict[str, EatenRow] = {}
        for call in calls:
            if call.baozi is None:
                continue
            row = EatenRow.of(call.baozi, *self._who, outcomes[call.id][1], call.order_id)
            known = rows.setdefault(row.baozi_id, row)
            if known is not row:
                if known.order_id != call.order_id:
                    self._refuse([row])
                rows[row.baozi_id] = known._replace(deliveries=known.deliveries + 1)
        return [rows[id_] for id_ in sorted(rows)]

    def _count_done(self, rows: Sequence[DoneRow]) -> dict[tuple[str, str], Done | None]:
        """Insert ``rows``; for keys that exist already, count the deliveries.

        Returns:
            For each key the result of an earlier delivery, or None if the key is new.
        """
        statement = self._statements.insert(done)
        upsert = statement.on_conflict_do_update(
            index_elements=[done.c.task, done.c.key],
            set_={"deliveries": done.c.deliveries + statement.excluded.deliveries},
        ).returning(done.c.task, done.c.key, done.c.deliveries, done.c.result)
        counted = {(row.task, row.key): row.deliveries for row in rows}
        return {
            (task, key): None if deliveries == counted[task, key] else Done(result)
            for task, key, deliveries, result in self.connection.execute(
                upsert, [it._asdict() for it in rows]
            )
        }

    def _count_eaten(self, rows: Sequence[EatenRow]) -> set[str]:
        """Insert ``rows``; for baozi that exist already, count the deliveries and return their ids."""
        statement = self._statements.insert(eaten)
        upsert = statement.on_conflict_do_update(
            index_elements=[eaten.c.baozi_id],
            set_={"deliveries": eaten.c.deliveries + statement.excluded.deliveries},
            where=same_order(statement.excluded.order_id),
        ).returning(eaten.c.baozi_id, eaten.c.deliveries)
        entered = self.connection.execute(upsert, [row._asdict() for row in rows]).all()
        counted = {row.baozi_id: row.deliveries for row in entered}
        others = [row for row in rows if row.baozi_id not in counted]
        if others:
            self._refuse(others)
        return {row.baozi_id for row in rows if counted[row.baozi_id] != row.deliveries}

    def _refuse(self, rows: Sequence[EatenRow]) -> None:
        self.refused += rows
        transaction = self.connection.get_transaction()
        if transaction is not None:
            transaction.rollback()
        raise name_in_use(rows)


_STORE = (
    update(done)
    .where(done.c.task == bindparam("of"), done.c.key == bindparam("by"))
    .values(result=bindparam("result"), done_at=bindparam("at"))
)
_STORE_TIME = update(eaten).where(eaten.c.baozi_id == bindparam("id")).values(eaten_at=bindparam("at"))


def known(connection: Connection, statements: Statements, calls: Sequence[Call]) -> list[bool]:
    """Return for each call whether an earlier delivery has done it. This only reads.

    Args:
        connection: a connection to the ledger.
        statements: the statements for its database.
        calls: the calls.
    """
    ids = [None if call.baozi is None else call.baozi.id for call in calls]
    found = statements.known(connection, {call.id for call in calls}, [id_ for id_ in ids if id_ is not None])
    return [
        call.id in found.done or (id_ is not None and found.eaten.get(id_, _NONE) in {None, call.order_id})
        for call, id_ in zip(calls, ids, strict=True)
    ]


#: Stands for the order of a baozi that is not in the ledger. It differs from every order's id, and from None.
_NONE = "none"


def note_refused(connection: Connection, insert: Insert, rows: Sequence[EatenRow]) -> None:
    """Record in the table ``refused`` that the numbers of ``rows`` belong to another order."""
    noted = [
        {
            "run": row.run,
            "producer": row.producer,
            "number": row.number,
            "order_id": row.order_id,
            "refused_at": row.eaten_at,
        }
        for row in rows
    ]
    connection.execute(insert(refused).on_conflict_do_nothing(), noted)


def name_in_use(rows: Sequence[EatenRow]) -> NameInUse:
    """Return the error that names the first of ``rows``."""
    first = rows[0]
    which = (
        Sentence("{id} and {count} more", id=first.baozi_id, count=len(rows) - 1)
        if rows[1:]
        else first.baozi_id
    )
    return NameInUse(
        "{which} of order {order}: another order of this run and producer has this number. Give each producer"
        " of a run a different name.",
        which=which,
        order=first.order_id or "none",
    )


def same_order(order_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a row of ``eaten`` has this order, or none, as older releases wrote it."""
    return eaten.c.order_id.is_(None) | (eaten.c.order_id == order_id)
