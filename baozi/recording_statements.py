"""The SQL statements of a recording: few, because they are its cost, and each with all rows of a batch.

One class for each database, with the same methods. They speak to the driver through SQLAlchemy's connection,
which knows the errors, but build no statement for each batch.
"""

import json
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Float, Table
from sqlalchemy.dialects import postgresql, sqlite

from baozi.ledger_schema import done, eaten
from baozi.model import Baozi
from baozi.order_statements import Insert


class DoneRow(NamedTuple):
    """A row of the table ``done``, column by column."""

    task: str
    key: str
    done_at: float
    consumer: str
    machine: str
    deliveries: int
    result: str | None


class EatenRow(NamedTuple):
    """A row of the table ``eaten``, column by column."""

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
        """Return the row for the first delivery of ``baozi``."""
        made = baozi.made_at
        run, producer, number = baozi.run, baozi.producer, baozi.number
        return cls(baozi.id, run, producer, number, consumer, machine, made, eaten_at, 1, order_id)


class Known(NamedTuple):
    """What the ledger has of some calls."""

    done: set[tuple[str, str]]
    """Tasks and keys."""
    eaten: dict[str, str | None]
    """By a baozi's id its order: None if a worker of an older release ate it."""


class Statements(Protocol):
    """The statements of one database."""

    insert: Insert
    """Makes the database's own insert, for what is not executed for each batch."""

    def known(self, connection: Connection, calls: Collection[tuple[str, str]], ids: Sequence[str]) -> Known:
        """Return what is committed. One statement, which only reads.

        Args:
            connection: to the ledger.
            calls: tasks and keys.
            ids: the ids of baozi.
        """

    def insert_new(
        self, connection: Connection, calls: Sequence[DoneRow], baozi: Sequence[EatenRow]
    ) -> tuple[Sequence[DoneRow], Sequence[EatenRow]]:
        """Insert rows that are new. If another transaction inserts one of them, wait for its end.

        Args:
            connection: one in a transaction that writes.
            calls: one or more rows, sorted by their key, so that two transactions do not wait for each other.
            baozi: rows, sorted likewise; or none.

        Returns:
            The rows that were not inserted. At least those whose key was there already are among them.
        """


def of(database: str) -> Statements:
    """Return the statements of SQLAlchemy's ``database``: "sqlite" or "postgresql"."""
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
    """On SQLite. A statement is cheap, and there is no way to the server: each row is inserted by itself."""

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
        """See :class:`Statements`."""
        given = [{task for task, _ in calls}, {key for _, key in calls}, *([ids] if ids else [])]
        lists = tuple(json.dumps(list(names), ensure_ascii=False) for names in given)
        sql = self._KNOWN + self._EATEN if ids else self._KNOWN
        return _known(connection.exec_driver_sql(sql, lists).all())

    def insert_new(
        self, connection: Connection, calls: Sequence[DoneRow], baozi: Sequence[EatenRow]
    ) -> tuple[Sequence[DoneRow], Sequence[EatenRow]]:
        """See :class:`Statements`. This inserts all rows or none: it cannot tell which were there."""
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
    """On PostgreSQL. All rows are inserted by one statement, in one exchange with the server.

    Rows are sent column by column. A column with one value in all rows, such as the worker's name, is sent
    once.
    """

    insert: Insert = staticmethod(postgresql.insert)

    # Each key is looked up by itself. Without LIMIT a server that has no statistics of the table yet, as that
    # of a new ledger, would read all of it.
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
        """See :class:`Statements`."""
        lists = [[task for task, _ in calls], [key for _, key in calls], *([list(ids)] if ids else [])]
        sql = self._KNOWN + self._EATEN if ids else self._KNOWN
        return _known(connection.exec_driver_sql(sql, tuple(lists)).all())

    def insert_new(
        self, connection: Connection, calls: Sequence[DoneRow], baozi: Sequence[EatenRow]
    ) -> tuple[Sequence[DoneRow], Sequence[EatenRow]]:
        """See :class:`Statements`."""
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
    """Rows, column by column: as the parameters of :func:`_insert_select`."""

    varying: tuple[bool, ...]
    """Of each column whether it has several values."""
    values: list[Any]
    """The values of the columns that have one, then of those that have several."""

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
    """The keys of the new rows come back only if a row was there: usually none was."""
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
