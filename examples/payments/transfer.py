"""One payment: the tables, and the function that moves the money. Both apps use it as it is."""

import time
from random import Random
from typing import Any, Protocol

from sqlalchemy import BigInteger, Column, Executable, Integer, MetaData, String, Table, insert, update

#: Accounts, and cents in each at the start.
ACCOUNTS, START = 100, 1_000_000
#: Seconds that another system takes to approve a payment.
_APPROVAL = 0.01

metadata = MetaData()
accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cents", BigInteger, nullable=False),
)
bookings = Table(
    "bookings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("payment", String, nullable=False, index=True),
    Column("cents", BigInteger, nullable=False),
)


class Executes(Protocol):
    """An object that executes SQL in a transaction: SQLAlchemy's Connection, or Baozi's Transaction."""

    def execute(self, statement: Executable, /) -> Any:
        """Execute ``statement``."""


def payment(seed: int, number: int) -> dict[str, Any]:
    """Return the payment with that number: always the same."""
    chance = Random(f"{seed}/{number}")
    source, target = chance.sample(range(ACCOUNTS), 2)
    return {"id": f"p-{number}", "source": source, "target": target, "cents": chance.randint(1, 99_999)}


def transfer(tx: Executes, payment: dict[str, Any]) -> None:
    """Move the money, and book that."""
    changes = {payment["source"]: -payment["cents"], payment["target"]: payment["cents"]}
    # In one order, so that two transfers never wait for each other.
    for account, cents in sorted(changes.items()):
        tx.execute(update(accounts).where(accounts.c.id == account).values(cents=accounts.c.cents + cents))
    time.sleep(_APPROVAL)
    tx.execute(insert(bookings).values(payment=payment["id"], cents=payment["cents"]))
