"""What the tests of the ledger and of the audit share: records to make, and processes that make them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url, select

from baozi.audit import Audit, Sums
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten
from baozi.model import Baozi, Order

#: The run of all tests but those that need two.
RUN = "course"
#: What each child process begins with; its ledger is the setting's.
CHILD = """
import sys, time
from baozi.errors import LedgerAway
from baozi.ledger import Ledger
from baozi.model import Baozi, Order
from baozi.settings import settings
ledger = Ledger(settings().ledger)
def eat(number, producer="alex"):
    baozi = Baozi(run="course", producer=producer, number=number, made_at=1.0)
    return ledger.record_eaten(baozi, "小红", "here", time.time())
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


def file_of(url: str) -> Path:
    return Path(str(make_url(url).database))


def eat(ledger: Ledger, *numbers: int, producer: str = "alex", run: str = RUN) -> None:
    for number in numbers:
        ledger.record_eaten(
            Baozi(run=run, producer=producer, number=number, made_at=1.0), "小红", "here", 2.0
        )


def close(
    ledger: Ledger, accepted: int, attempted: int | None = None, producer: str = "alex", run: str = RUN
) -> None:
    tried = accepted if attempted is None else attempted
    ledger.record_order(Order(run=run, producer=producer, accepted=accepted, attempted=tried, closed_at=3.0))


def only(sums: Audit) -> Sums:
    (producer,) = sums.producers
    return producer
