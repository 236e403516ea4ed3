"""The SQL that writes the ledger's rows, on SQLite and PostgreSQL.

The rows of executions are most of the ledger's cost. So :class:`SQLite` and :class:`PostgreSQL` write all
rows of a batch with few statements. Those statements are text, because SQLAlchemy would take longer to build
them for each batch than the database to execute them. Orders are opened and closed rarely: SQLAlchemy builds
their statements.
"""

import json
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection, Executable, Float, Table, case
from sqlalchemy.dialects import postgresql, sqlite

from baozi.ledger_schema import done, eaten, order_sessions, orders
from baozi.model import Baozi, Closing, Opening

#: Makes a dialect's own insert, which can say what happens if the row exists.
Insert = Callable[[Table], Any]


class DoneRow(NamedTuple):
    """A row of the table ``done``. The fields are its columns, in their order."""

    task: str
    key: str
    done_at: float
    consumer: str
    machine: str
    deliveries: int
    result: str | None

    @classmethod
    def of(
        cls,
        id_: tuple[str, str],
        result: str | None,
        done_at: float,
        consumer: str,
        machine: str,
        deliveries: int,
    ) -> "DoneRow":
        """Return the row of an execution.

        Args:
            id_: the task's name and the key.
            result: the result as JSON; None for None.
            done_at: epoch seconds.
            consumer: the worker's name.
            machine: the name of the worker's machine.
            deliveries: how often this batch has the key.
        """
        return cls(*id_, done_at, consumer, machine, deliveries, result)


class EatenRow(NamedTuple):
    """A row of the table ``eaten``. The fields are its columns, in their order."""

    baozi_id: str
    run: str
    producer: str
    number: int
    consumer: str
    machine: str
    made_at: float
    eaten_at: float
    deliveries: int
    order_id: str | None

    @classmethod
    def of(cls, baozi: Baozi, consumer: str, machine: str, eaten_at: float, order_id: str) -> "EatenRow":
        """Return the row for the first delivery of ``baozi``.

        Args:
            baozi: the baozi.
            consumer: the worker's name.
            machine: the name of the worker's machine.
            eaten_at: epoch seconds.
            order_id: the order that the message names, or an empty string.
        """
        made = baozi.made_at
        run, producer, number = baozi.run, baozi.producer, baozi.number
        return cls(baozi.id, run, producer, number, consumer, machine, made, eaten_at, 1, order_id)


class Known(NamedTuple):
    """The calls and baozi that the ledger has recorded."""

    done: set[tuple[str, str]]
    """The task and the key of each call."""
    eaten: dict[str, str | None]
    """The order id of each baozi, by the baozi's id. None if a worker of an older release ate it."""


class Statements(Protocol):
    """The statements of one kind of database."""

    insert: Insert
    """Makes an SQLAlchemy insert of this dialect, for statements that are not executed for each batch."""

    def known(self, connection: Connection, calls: Collection[tuple[str, str]], ids: Sequence[str]) -> Known:
        """Return which of these calls and baozi are committed. This executes one statement, which only reads.

        Args:
            connection: a connection to the ledger.
            calls: the task and the key of each call.
            ids: the ids of the baozi.
        """

    def insert_new(
        self, connection: Connection, calls: Sequence[DoneRow], baozi: Sequence[EatenRow]
    ) -> tuple[Sequence[DoneRow], Sequence[EatenRow]]:
        """Insert the rows that are new. If another transaction inserts one of them, wait until it ends.

        Args:
            connection: a connection in a transaction that writes.
            calls: one or more rows, sorted by their key, so that two transactions do not deadlock.
            baozi: any number of rows, sorted by their id.

        Returns:
            The rows that were not inserted: all rows whose key existed already, and perhaps others.
        """


def of(database: str) -> Statements:
    """Return the statements for the dialect ``database``, "sqlite" or "postgresql"."""
    return PostgreSQL() if database == "postgresql" else SQLite()


def _known(rows: Sequence[Any]) -> Known:
    found = Known(set(), {})
    for task, name, order_id in rows:
        if task is None:
            found.eaten[name] = order_id
        else:
            found.done.add((task, name))
    return found


class SQLite:
    """The statements of SQLite. It has no server, so a statement is cheap: each row has its own insert."""

    insert: Insert = staticmethod(sqlite.insert)

    _KNOWN = (
        "SELECT task, key, NULL FROM done WHERE task IN (SELECT value FROM json_each(?))"
        " AND key IN (SELECT value FROM json_each(?))"
    )
    _EATEN = (
        " UNION ALL SELECT NULL, baozi_id, order_id FROM eaten"
        " WHERE baozi_id IN (SELECT value FROM json_each(?))"
    )

    def known(self, connection: Connection, calls: Collection[tuple[str, str]], ids: Sequence[str]) -> Known:
        """Implement :meth:`Statements.known`."""
        given = [{task for task, _ in calls}, {key for _, key in calls}, *([ids] if ids else [])]
        lists = tuple(json.dumps(list(names), ensure_ascii=False) for names in given)
        sql = self._KNOWN + self._EATEN if ids else self._KNOWN
        return _known(connection.exec_driver_sql(sql, lists).all())

    def insert_new(
        self, connection: Connection, calls: Sequence[DoneRow], baozi: Sequence[EatenRow]
    ) -> tuple[Sequence[DoneRow], Sequence[EatenRow]]:
        """Insert all rows, or none if one exists already: SQLite does not say which one.

        The arguments and the result are those of :meth:`Statements.insert_new`.
        """
        connection.exec_driver_sql("SAVEPOINT new")
        if self._insert_all(connection, done, calls) and self._insert_all(connection, eaten, baozi):
            connection.exec_driver_sql("RELEASE new")
            return (), ()
        connection.exec_driver_sql("ROLLBACK TO new")
        connection.exec_driver_sql("RELEASE new")
        return calls, baozi

    @staticmethod
    def _insert_all(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> bool:
        if not rows:
            return True
        inserted = connection.exec_driver_sql(
            _insert_on_sqlite(table), list(rows), execution_options={"preserve_rowcount": True}
        )
        return bool(inserted.rowcount == len(rows))


@cache
def _insert_on_sqlite(table: Table) -> str:
    names = [column.name for column in table.columns]
    values = ", ".join("?" * len(names))
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT DO NOTHING"  # noqa: S608  # names of the schema


class PostgreSQL:
    """The statements of PostgreSQL. One statement inserts all rows, in one round trip to the server.

    Rows are sent as one array for each column. A column with the same value in all rows, such as the worker's
    name, is sent once.
    """

    insert: Insert = staticmethod(postgresql.insert)

    # LATERAL with LIMIT looks each key up in the index. Without LIMIT, a server that has no statistics of the
    # table yet, such as that of a new ledger, would read the whole table.
    _KNOWN = (
        "SELECT known.* FROM unnest(%s::text[], %s::text[]) AS given (task, key), LATERAL"
        " (SELECT task, key, NULL::text FROM done WHERE task = given.task AND key = given.key LIMIT 1)"
        " AS known"
    )
    _EATEN = (
        " UNION ALL SELECT known.* FROM unnest(%s::text[]) AS given (id), LATERAL"
        " (SELECT NULL::text, baozi_id::text, order_id::text FROM eaten WHERE baozi_id = given.id LIMIT 1)"
        " AS known"
    )

    def known(self, connection: Connection, calls: Collection[tuple[str, str]], ids: Sequence[str]) -> Known:
        """Implement :meth:`Statements.known`."""
        lists = [[task for task, _ in calls], [key for _, key in calls], *([list(ids)] if ids else [])]
        sql = self._KNOWN + self._EATEN if ids else self._KNOWN
        return _known(connection.exec_driver_sql(sql, tuple(lists)).all())

    def insert_new(
        self, connection: Connection, calls: Sequence[DoneRow], baozi: Sequence[EatenRow]
    ) -> tuple[Sequence[DoneRow], Sequence[EatenRow]]:
        """Implement :meth:`Statements.insert_new`."""
        of_done = _Columns.of(done, calls)
        of_eaten = _Columns.of(eaten, baozi) if baozi else None
        sql = _insert_on_postgresql(of_done.varying, of_eaten and of_eaten.varying)
        values = [*of_done.values, *(of_eaten.values if of_eaten else ()), len(calls), len(calls)]
        if of_eaten:
            values.append(len(baozi))
        inserted = connection.exec_driver_sql(sql, tuple(values)).all()
        count, tasks, keys = inserted[0]
        left = calls
        if count == len(calls):
            left = ()
        elif count:
            new = set(zip(tasks, keys, strict=True))
            left = [row for row in calls if (row.task, row.key) not in new]
        if not baozi:
            return left, ()
        count, _, ids = inserted[1]
        new_ids = set(ids or ())
        return left, () if count == len(baozi) else [row for row in baozi if row.baozi_id not in new_ids]


class _Columns(NamedTuple):
    """Rows as the parameters of :func:`_insert_select`."""

    varying: tuple[bool, ...]
    """For each column, whether its values differ."""
    values: list[Any]
    """First the value of each column with one value, then the array of each column whose values differ."""

    @classmethod
    def of(cls, table: Table, rows: Sequence[tuple[Any, ...]]) -> "_Columns":
        varying, single, several = [], [], []
        for column, values in zip(table.columns, zip(*rows, strict=True), strict=True):
            varies = values.count(values[0]) < len(values)
            varying.append(varies)
            if not varies:
                single.append(values[0])
            elif isinstance(column.type, Float):
                several.append(list(map(float, values)))  # an array has one type
            else:
                several.append(list(values))
        return cls(tuple(varying), single + several)


@cache
def _insert_on_postgresql(of_done: tuple[bool, ...], of_eaten: tuple[bool, ...] | None) -> str:
    """Return the insert for both tables. It returns keys only if a row existed already, which is rare."""
    entered = f"new_done AS ({_insert_select(done, of_done)} RETURNING task, key)"
    counted = (
        "SELECT count(*), CASE WHEN count(*) < %s THEN array_agg(task) END,"
        " CASE WHEN count(*) < %s THEN array_agg(key) END FROM new_done"
    )
    if of_eaten is not None:
        entered += f", new_eaten AS ({_insert_select(eaten, of_eaten)} RETURNING baozi_id)"
        counted += (
            " UNION ALL SELECT count(*), NULL, CASE WHEN count(*) < %s THEN array_agg(baozi_id::text) END"
            " FROM new_eaten"
        )
    return f"WITH {entered} {counted}"


def _insert_select(table: Table, varying: Sequence[bool]) -> str:
    single = [
        (column, f"%s::{column.type}")
        for column, varies in zip(table.columns, varying, strict=True)
        if not varies
    ]
    several = [column for column, varies in zip(table.columns, varying, strict=True) if varies]
    into = [column.name for column, _ in single] + [column.name for column in several]
    selected = [value for _, value in single] + [f"given.{column.name}" for column in several]
    sql = f"INSERT INTO {table.name} ({', '.join(into)}) SELECT {', '.join(selected)}"
    if several:
        arrays = ", ".join(f"%s::{column.type}[]" for column in several)
        sql += f" FROM unnest({arrays}) AS given ({', '.join(column.name for column in several)})"
    return sql + " ON CONFLICT DO NOTHING"


def opening(insert: Insert, told: Opening) -> Executable:
    """Return the statement that records that an order is open.

    Args:
        insert: the dialect's insert.
        told: the opening. If its session, or a later one, was recorded before, nothing changes.
    """
    row = _key(told) | {"opened": told.session, "closed": 0, "told_at": told.opened_at}
    statement = insert(order_sessions).values(**row, attempted=0, unknown="[]")
    recorded: Executable = statement.on_conflict_do_update(
        index_elements=list(order_sessions.primary_key),
        set_={"opened": statement.excluded.opened},
        where=order_sessions.c.opened < statement.excluded.opened,
    )
    return recorded


def closing(insert: Insert, told: Closing) -> Executable:
    """Return the statement that records that an order is closed.

    Args:
        insert: the dialect's insert.
        told: the closing. If a later session was closed before, nothing changes.
    """
    if not told.order:
        return _closing_without_id(insert, told)
    row = _key(told) | {"opened": told.session, "closed": told.session, "told_at": told.closed_at}
    unknown = json.dumps(told.unknown)
    statement = insert(order_sessions).values(**row, attempted=told.attempted, unknown=unknown)
    new, old = statement.excluded, order_sessions.c
    changes = {name: new[name] for name in ("closed", "attempted", "unknown", "told_at")}
    recorded: Executable = statement.on_conflict_do_update(
        index_elements=list(order_sessions.primary_key),
        set_={"opened": _greater(old.opened, new.opened), **changes},
        where=old.closed < new.closed,
    )
    return recorded


def _closing_without_id(insert: Insert, told: Closing) -> Executable:
    names = ("accepted", "attempted", "closed_at")
    statement = insert(orders).values(told.model_dump(include={"run", "producer", *names}))
    new, old = statement.excluded, orders.c
    recorded: Executable = statement.on_conflict_do_update(
        index_elements=[old.run, old.producer],
        set_={name: _greater(old[name], new[name]) for name in names},
    )
    return recorded


def _key(told: Opening | Closing) -> dict[str, Any]:
    return {"run": told.run, "producer": told.producer, "order_id": told.order}


def _greater(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((one > other, one), else_=other)
