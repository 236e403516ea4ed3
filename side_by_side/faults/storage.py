"""Faults of the ledger's storage."""

import sqlite3
from contextlib import closing
from random import Random

from baozi.language import Sentence
from side_by_side.chaos_environment import ChaosEnvironment, PromiseBroken
from side_by_side.faults.fault import Effect, Fault

#: Seconds: longer than a worker waits for one statement, so that it has to try again.
_LOCKED = 6.0


def lock_ledger(environment: ChaosEnvironment, _: Random) -> Effect:
    """Hold the ledger's write lock: no worker can commit, so none may acknowledge."""
    with closing(
        sqlite3.connect(environment.records.ledger_file, timeout=30, isolation_level=None)
    ) as ledger:
        ledger.execute("BEGIN IMMEDIATE")
        before = environment.records.eaten()
        environment.pause(_LOCKED)
        if environment.records.eaten() != before:
            raise PromiseBroken("A baozi was eaten while the ledger was locked.")
        environment.start_recovery_clock()
        ledger.execute("ROLLBACK")
    return Effect(Sentence("the ledger"))


FAULTS = (
    Fault(
        "lock-ledger",
        "Holds the ledger's write lock for some seconds.",
        "eating waits and goes on; nothing is acknowledged without its row in the ledger",
        lock_ledger,
    ),
)
