"""``python -m side_by_side.removed_settings SETTING… -- MODULE …`` runs a program of ours without a setting.

Each setting carries a promise. Without it, the promise is seen to break. The change is made in this process
and in those that it forks. No file is changed.
"""

import runpy
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from amqp import Channel
from sqlalchemy import Column, Connection, MetaData, Table, insert, inspect

from baozi import ledger_schema, recording
from baozi.amqp.confirms import ConfirmedChannel
from baozi.ledger_statements import EatenRow
from baozi.recording import Call, Recording
from baozi.task import ReliableTask


def put_in_place(of: object, name: str, function: object) -> None:
    """Replace the attribute ``name`` of a class or a module."""
    setattr(of, name, function)


def _late_acknowledgement() -> None:
    ReliableTask.acks_late = False


def _confirms() -> None:
    send = ConfirmedChannel.send

    def sent_is_accepted(channel: ConfirmedChannel, message_id: str, publish: Callable[..., object]) -> None:
        send(channel, message_id, publish)
        channel._settled += channel._window.confirmed(0, multiple=True)

    put_in_place(ConfirmedChannel, "send", sent_is_accepted)
    put_in_place(Channel, "confirm_select", lambda _: None)


def _ledgers_key() -> None:
    whole = ledger_schema.eaten
    keyless = Table(whole.name, MetaData(), *(Column(column.name, column.type) for column in whole.columns))
    make = ledger_schema.make

    def make_without_key(connection: Connection) -> None:
        make(connection)
        if inspect(connection).get_pk_constraint(whole.name)["constrained_columns"]:
            whole.drop(connection)
            keyless.create(connection)

    def claim_anew(mine: Recording, calls: Sequence[Call]) -> list[None]:
        all_baozi = [(call.baozi, call.order_id) for call in calls if call.baozi is not None]
        rows = [EatenRow.of(it, *mine._who, time.time(), order_id)._asdict() for it, order_id in all_baozi]
        if rows:
            mine.connection.execute(insert(keyless), rows)
        return [None] * len(calls)

    def record_anew(mine: Recording, results: Sequence[tuple[Call, Any, Any]]) -> list[None]:
        return claim_anew(mine, [call for call, _, _ in results])

    ledger_schema.make = make_without_key
    put_in_place(Recording, "claim", claim_anew)
    put_in_place(Recording, "record", record_anew)
    put_in_place(recording, "known", lambda _connection, _statements, calls: [False] * len(calls))


#: Removes a setting, by its name.
REMOVED_SETTINGS: dict[str, Callable[[], None]] = {
    "late-acknowledgement": _late_acknowledgement,
    "confirms": _confirms,
    "ledgers-key": _ledgers_key,
}


if __name__ == "__main__":
    names, program = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    for name in names:
        REMOVED_SETTINGS[name]()
    sys.argv = program
    runpy.run_module(program[0], run_name="__main__", alter_sys=True)
