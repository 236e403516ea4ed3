"""SQL that records opened and closed orders, on SQLite and PostgreSQL."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Executable, Table, case

from baozi.ledger_schema import order_sessions, orders
from baozi.model import Closing, Opening

#: Makes a dialect's own insert, which can say what to do with a row that is there.
Insert = Callable[[Table], Any]


def opening(insert: Insert, told: Opening) -> Executable:
    """Return the statement that records that an order is open until the session is closed."""
    row = _key(told) | {"opened": told.session, "closed": 0, "told_at": told.opened_at}
    statement = insert(order_sessions).values(**row, attempted=0, unknown="[]")
    recorded: Executable = statement.on_conflict_do_update(
        index_elements=list(order_sessions.primary_key),
        set_={"opened": statement.excluded.opened},
        where=order_sessions.c.opened < statement.excluded.opened,
    )
    return recorded


def closing(insert: Insert, told: Closing) -> Executable:
    """Return the statement that records a closed order; messages of an earlier session change nothing."""
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
