"""What the tests of the ledger and of the audit share: records to make, and processes that make them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url, select
from sqlalchemy.dialects import postgresql, sqlite

from baozi.audit import Audit, Sums
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten
from baozi.ledger_statements import EatenRow
from baozi.model import NO_ORDER, Baozi, Closing
from baozi.recording import Call

#: The run of all tests but those that need two.
RUN = "course"
#: What each child process begins with; its ledger is the setting's.
CHILD = """
import sys, time
from baozi.errors import LedgerAway
from baozi.ledger import Ledger
from baozi.model import Baozi, Closing
from baozi.settings import settings
from tests.integration.ledgers import record_eaten
ledger = Ledger(settings().ledger)
def eat(number, producer="alex"):
    baozi = Baozi(run="course", producer=producer, number=number, made_at=1.0)
    return record_eaten(ledger, baozi, "小红", "here", time.time())
"""


def child(program: str, url: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", CHILD + program, *arguments],
        env={**os.environ, "BAOZI_LEDGER_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def children(program: str, url: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Several of them; a test that fails leaves none behind."""
    processes = [child(program, url) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            with process:
                process.wait(30)


def said(process: subprocess.Popen[str]) -> str:
    with process:
        out, complaint = process.communicate(timeout=120)
    assert (process.returncode, complaint) == (0, "")
    return out


def baozi(number: int = 0, producer: str = "alex") -> Baozi:
    return Baozi(run="course", producer=producer, number=number, made_at=1.0)


def rows(ledger: Ledger) -> list[dict[str, object]]:
    with ledger.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(select(eaten).order_by(eaten.c.number))]


def call_of(baozi: Baozi, order_id: str = NO_ORDER) -> Call:
    return Call("tasks.eat", baozi.id, baozi, order_id)


def record_eaten_many(
    ledger: Ledger,
    tray: Sequence[Baozi],
    consumer: str,
    machine: str,
    eaten_at: float,
    order_ids: Sequence[str] | None = None,
) -> list[Baozi]:
    """Record that all of ``tray`` was eaten, as a worker does; return those that are new."""
    ids = order_ids or [NO_ORDER] * len(tray)
    calls = [call_of(baozi, order_id) for baozi, order_id in zip(tray, ids, strict=True)]
    with ledger.recording(consumer, machine) as recording:
        new = [call for call, done in zip(calls, recording.claim(calls), strict=True) if done is None]
        if new:
            recording.finish([(call, None, eaten_at) for call in new])
    return [call.baozi for call in new if call.baozi is not None]


def record_eaten(
    ledger: Ledger, baozi: Baozi, consumer: str, machine: str, eaten_at: float, order_id: str = NO_ORDER
) -> bool:
    """The same for one; return whether it is new."""
    return bool(record_eaten_many(ledger, [baozi], consumer, machine, eaten_at, [order_id]))


def record_redelivery(ledger: Ledger, baozi: Baozi, order_id: str = NO_ORDER) -> bool:
    """Count one more delivery if ``baozi`` is recorded; return whether it is."""
    return ledger.recorded([call_of(baozi, order_id)], "小红", "here") != [None]


def file_of(url: str) -> Path:
    return Path(str(make_url(url).database))


def eat(ledger: Ledger, *numbers: int, producer: str = "alex", run: str = RUN) -> None:
    for number in numbers:
        record_eaten(
            ledger, Baozi(run=run, producer=producer, number=number, made_at=1.0), "小红", "here", 2.0
        )


def eat_as_before(ledger: Ledger, *numbers: int) -> None:
    """Record as a worker of a release before schema version 4 does: in ``eaten`` alone."""
    insert = postgresql.insert if ledger._engine.dialect.name == "postgresql" else sqlite.insert
    with ledger._writing() as connection:
        for number in numbers:
            row = EatenRow.of(baozi(number), "小红", "here", 2.0, NO_ORDER)._asdict()
            counted = insert(eaten).values(**row)
            connection.execute(
                counted.on_conflict_do_update(
                    index_elements=[eaten.c.baozi_id], set_={"deliveries": eaten.c.deliveries + 1}
                )
            )


def close(
    ledger: Ledger, accepted: int, attempted: int | None = None, producer: str = "alex", run: str = RUN
) -> None:
    tried = accepted if attempted is None else attempted
    ledger.record_order(
        Closing(run=run, producer=producer, accepted=accepted, attempted=tried, closed_at=3.0)
    )


def only(sums: Audit) -> Sums:
    (producer,) = sums.producers
    return producer
