"""One transaction of the ledger that records what tasks did: each key of a task once.

The claim of a key is an insert in ``done``. On PostgreSQL a concurrent delivery of the same key waits for it;
on SQLite only one transaction writes at a time. So when a claim returns, an earlier delivery either has
committed, and its result is known, or has left nothing.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, delete, select, tuple_, update

from baozi.errors import NameInUse, TransactionOver
from baozi.ledger_engine import ledger_errors
from baozi.ledger_schema import done, eaten, refused
from baozi.model import NO_ORDER, Baozi
from baozi.order_statements import Insert


class Call(NamedTuple):
    """One execution of one task for one message."""

    task: str
    """The task's name."""
    key: str
    """What makes it the same call when it is delivered again: at most 255 characters."""
    baozi: Baozi | None = None
    """Its identity within an order."""
    order_id: str = NO_ORDER
    """The order that its message names."""

    @property
    def id(self) -> tuple[str, str]:
        """Its primary key in ``done``."""
        return self.task, self.key


class Done(NamedTuple):
    """What an earlier delivery left."""

    result: str | None
    """The result as JSON; None for None."""


class Recording:
    """An open transaction of the ledger. Made by :meth:`baozi.ledger.Ledger.recording`."""

    def __init__(self, connection: Connection, insert: Insert, consumer: str, machine: str) -> None:
        """Record on ``connection``, which is in a transaction that writes.

        Args:
            connection: a connection to the ledger.
            insert: makes the dialect's own insert.
            consumer: the worker that records.
            machine: where it is.
        """
        self.connection = connection
        self.refused: list[dict[str, Any]] = []
        """Rows for the table ``refused``, of calls whose number is another order's."""
        self._insert = insert
        self._who = {"consumer": consumer, "machine": machine}
        #: The baozi that this transaction inserted in ``eaten``, by the key of their call.
        self._inserted: dict[tuple[str, str], list[str]] = {}
        self._withdrawn: set[tuple[str, str]] = set()

    def claim(self, calls: Sequence[Call]) -> list[Done | None]:
        """Claim the key of each call. Claim all calls of a batch at once: the claims are sorted.

        Of several calls with one key the first is claimed, and the others are ``Done(None)``. If the first
        then fails, the others are not done: see :meth:`withdrawn`.

        Args:
            calls: what is to be executed.

        Returns:
            For each call None if it is to be executed now, or what an earlier delivery left. Its deliveries
            are counted then. A call whose baozi an older release has eaten is ``Done(None)``.

        Raises:
            NameInUse: another order has the number of some call. The transaction is rolled back.
            LedgerAway: the ledger cannot be used. Leave the block, and do all of it again later.
            sqlalchemy.exc.DataError: the database cannot store this key.
        """
        now = time.time()
        return self._enter(calls, {call.id: (None, now) for call in calls})

    def record(self, results: Sequence[tuple[Call, str | None, float]]) -> list[Done | None]:
        """Claim and finish in one step, for calls that were executed before their claim.

        Args:
            results: each call with its result as JSON and its time (epoch seconds).

        Returns:
            As :meth:`claim`: None for each call that is new.

        Raises:
            NameInUse, LedgerAway, sqlalchemy.exc.DataError: as :meth:`claim`; DataError also for a result.
        """
        # Of several results of one key the first counts.
        outcomes = {call.id: (result, at) for call, result, at in reversed(results)}
        return self._enter([call for call, _, _ in results], outcomes)

    def finish(self, results: Sequence[tuple[Call, str | None, float]]) -> None:
        """Store the results of calls that this transaction claimed.

        Args:
            results: each call with its result as JSON and its time (epoch seconds).

        Raises:
            TransactionOver: the transaction has ended, so the claims are gone. Nothing is done.
            sqlalchemy.exc.DBAPIError: the database refuses it.
        """
        if not results:
            return
        transaction = self.connection.get_transaction()
        if transaction is None or not transaction.is_active:
            raise TransactionOver()
        rows = [{"of": call.task, "by": call.key, "result": result, "at": at} for call, result, at in results]
        stored = self.connection.execute(_STORE, rows, execution_options={"preserve_rowcount": True})
        if stored.rowcount != len(rows):
            # Some errors end a transaction of SQLite. What was executed after that has committed by itself.
            raise TransactionOver()
        times = [{"id": call.baozi.id, "at": at} for call, _, at in results if call.baozi]
        if times:
            self.connection.execute(_STORE_TIME, times)

    @contextmanager
    def savepoint(self, call: Call) -> Iterator[None]:
        """Roll back what this block did, and the claim of ``call``, if the block raises.

        Args:
            call: the call that the block executes. This transaction has claimed it.
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
        """Take the claim of ``call`` back, and what this transaction recorded of calls with the same key."""
        self._withdrawn.add(call.id)
        self.connection.execute(delete(done).where(done.c.task == call.task, done.c.key == call.key))
        inserted = self._inserted.pop(call.id, [])
        if inserted:
            self.connection.execute(delete(eaten).where(eaten.c.baozi_id.in_(inserted)))

    def withdrawn(self, call: Call) -> bool:
        """Return whether the claim of the call's key was taken back. Then no call with that key is done."""
        return call.id in self._withdrawn

    def _enter(
        self, calls: Sequence[Call], outcomes: dict[tuple[str, str], tuple[str | None, float]]
    ) -> list[Done | None]:
        if not calls:
            return []
        # These are the ledger's statements: what is wrong with them is not the task's fault.
        with ledger_errors():
            earlier = self._enter_done(calls, outcomes)
            new = self._enter_eaten(calls, outcomes)
        answers: list[Done | None] = []
        first: set[tuple[str, str]] = set()
        for call in calls:
            mine = call.id not in first and earlier[call.id] is None
            if call.baozi is not None:
                if call.baozi.id in new:
                    new.remove(call.baozi.id)
                    self._inserted.setdefault(call.id, []).append(call.baozi.id)
                else:
                    mine = False
            first.add(call.id)
            answers.append(None if mine else earlier[call.id] or Done(None))
        return answers

    def _enter_done(
        self, calls: Sequence[Call], outcomes: dict[tuple[str, str], tuple[str | None, float]]
    ) -> dict[tuple[str, str], Done | None]:
        """Insert or count each key; return for each what an earlier delivery left."""
        counts = Counter(call.id for call in calls)
        # Sorted, or two workers that share two keys would wait for each other in PostgreSQL.
        rows = [
            {
                "task": task,
                "key": key,
                "result": result,
                "done_at": at,
                "deliveries": counts[task, key],
                **self._who,
            }
            for (task, key), (result, at) in sorted(outcomes.items(), key=lambda item: item[0])
        ]
        statement = self._insert(done)
        upsert = statement.on_conflict_do_update(
            index_elements=[done.c.task, done.c.key],
            set_={"deliveries": done.c.deliveries + statement.excluded.deliveries},
        ).returning(done.c.task, done.c.key, done.c.deliveries, done.c.result)
        return {
            (task, key): None if deliveries == counts[task, key] else Done(result)
            for task, key, deliveries, result in self.connection.execute(upsert, rows)
        }

    def _enter_eaten(
        self, calls: Sequence[Call], outcomes: dict[tuple[str, str], tuple[str | None, float]]
    ) -> set[str]:
        """Insert or count each baozi; return the ids of those that are new."""
        rows: dict[str, dict[str, Any]] = {}
        for call in calls:
            if call.baozi is None:
                continue
            row = eaten_row(call.baozi, eaten_at=outcomes[call.id][1], order_id=call.order_id, **self._who)
            known = rows.setdefault(call.baozi.id, row | {"deliveries": 0})
            known["deliveries"] += 1
            if known["order_id"] != call.order_id:
                self._refuse([row])
        if not rows:
            return set()
        statement = self._insert(eaten)
        upsert = statement.on_conflict_do_update(
            index_elements=[eaten.c.baozi_id],
            set_={"deliveries": eaten.c.deliveries + statement.excluded.deliveries},
            where=same_order(statement.excluded.order_id),
        ).returning(eaten.c.baozi_id, eaten.c.deliveries)
        entered = self.connection.execute(upsert, [rows[id_] for id_ in sorted(rows)]).all()
        counted = {row.baozi_id: row.deliveries for row in entered}
        others = [row for id_, row in rows.items() if id_ not in counted]
        if others:
            self._refuse(others)
        return {id_ for id_, deliveries in counted.items() if deliveries == rows[id_]["deliveries"]}

    def _refuse(self, rows: Sequence[dict[str, Any]]) -> None:
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


def known(connection: Connection, calls: Sequence[Call]) -> list[bool]:
    """Return of each call whether an earlier delivery has done it. This only reads."""
    keys = {call.id for call in calls}
    found = select(done.c.task, done.c.key).where(tuple_(done.c.task, done.c.key).in_(sorted(keys)))
    is_done = {(task, key) for task, key in connection.execute(found)}
    ids = sorted({call.baozi.id for call in calls if call.baozi is not None})
    orders: dict[str, str | None] = {}
    if ids:
        of_order = select(eaten.c.baozi_id, eaten.c.order_id).where(eaten.c.baozi_id.in_(ids))
        orders = {row.baozi_id: row.order_id for row in connection.execute(of_order)}
    return [
        call.id in is_done
        or (call.baozi is not None and orders.get(call.baozi.id, _NONE) in {None, call.order_id})
        for call in calls
    ]


#: The order of a baozi that is not in the ledger: unlike any order's id, and not None.
_NONE = "none"


def note_refused(connection: Connection, insert: Insert, rows: Sequence[dict[str, Any]]) -> None:
    """Record that the numbers of ``rows``, of the table ``eaten``, are another order's."""
    names = ("run", "producer", "number", "order_id")
    noted = [{name: row[name] for name in names} | {"refused_at": row["eaten_at"]} for row in rows]
    connection.execute(insert(refused).on_conflict_do_nothing(), noted)


def name_in_use(rows: Sequence[dict[str, Any]]) -> NameInUse:
    """Return the error that names the first of ``rows``, of the table ``eaten``."""
    first, more = rows[0], f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return NameInUse(
        f"{first['baozi_id']}{more} of order {first['order_id'] or 'none'}: another order of this run and"
        " producer has this number. Give each producer of a run another name."
    )


def same_order(order_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a row of ``eaten`` may be of ``order_id``; workers of older releases do not record it."""
    return eaten.c.order_id.is_(None) | (eaten.c.order_id == order_id)


def eaten_row(baozi: Baozi, consumer: str, machine: str, eaten_at: float, order_id: str) -> dict[str, Any]:
    """Return the row of ``eaten`` for the first delivery of ``baozi``."""
    return {
        "baozi_id": baozi.id,
        "run": baozi.run,
        "producer": baozi.producer,
        "number": baozi.number,
        "consumer": consumer,
        "machine": machine,
        "made_at": baozi.made_at,
        "eaten_at": eaten_at,
        "deliveries": 1,
        "order_id": order_id,
    }
