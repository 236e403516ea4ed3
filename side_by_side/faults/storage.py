"""Faults of the ledger's storage."""

import sqlite3
from contextlib import closing
from random import Random

from side_by_side.faults.strike import Strike, Struck
from side_by_side.kitchen import Broken, Kitchen

#: Seconds: longer than a worker's patience with one statement, so that it has to try again.
_LOCKED = 6.0


def lock_ledger(kitchen: Kitchen, _: Random) -> Struck:
    """Hold the ledger's write lock: nobody can commit, so nobody may acknowledge."""
    with closing(sqlite3.connect(kitchen.books.ledger_file, timeout=30, isolation_level=None)) as ledger:
        ledger.execute("BEGIN IMMEDIATE")
        before = kitchen.books.eaten()
        kitchen.pause(_LOCKED)
        if kitchen.books.eaten() != before:
            raise Broken("Something was eaten while the ledger was locked.")
        kitchen.mark()
        ledger.execute("ROLLBACK")
    return Struck("the ledger")


STRIKES = (
    Strike("lock-ledger", "eating waits and goes on; nothing is acknowledged without its row", lock_ledger),
)
