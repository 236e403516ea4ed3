"""Somebody's Celery app, as an engineer would write it on ``Reliable``: the tests run its workers.

``SHOP_BROKER`` and ``SHOP_LEDGER`` say where; ``SHOP_RUNS`` is a file to which each function adds a line when
it runs.
"""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import task_success
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, String, Table, insert

from baozi import DeadLetter, Key, Reliable, Retry, Transaction

app = Celery("shop", broker=os.environ.get("SHOP_BROKER"), set_as_current=False)
reliable = Reliable(app, queue="shop", ledger=os.environ.get("SHOP_LEDGER"))

payments = Table(
    "payments",
    MetaData(),
    Column("order_id", String, primary_key=True),
    Column("amount", Integer, nullable=False),
)
attempts = Table("attempts", payments.metadata, Column("order_id", String), Column("amount", Integer))


class Bought(BaseModel):
    """What the shop is told of a purchase."""

    id: str
    amount: int


def ran(what: str) -> None:
    """Note that a function runs."""
    with Path(os.environ["SHOP_RUNS"]).open("a") as runs:
        runs.write(f"{what}\n")


@reliable.task(name="shop.charge", key=lambda bought: bought.id, batch=int(os.environ.get("SHOP_BATCH", "1")))
def charge(bought: Bought, tx: Transaction) -> dict[str, int]:
    """Book one payment, in the ledger's transaction. 13 cannot be booked, and 14 never ends."""
    ran(f"charge {bought.id}")
    tx.execute(insert(attempts).values(order_id=bought.id, amount=bought.amount))
    if bought.amount == 13:
        raise ValueError("13 is no amount")
    if bought.amount == 14:
        time.sleep(600)
    time.sleep(float(os.environ.get("SHOP_SECONDS", "0")))
    tx.execute(insert(payments).values(order_id=bought.id, amount=bought.amount))
    return {"booked": bought.amount}


@reliable.task(
    name="shop.book",
    key=lambda bought: bought.id,
    batch=lambda: int(os.environ.get("SHOP_BATCH", "1")),
    as_list=True,
    retry=Retry(on=(TimeoutError,), attempts=3, first=0.1, longest=1),
)
def book(orders: list[Bought], keys: list[Key], tx: Transaction) -> list[dict[str, int]]:
    """Book payments together. 13 cannot be booked, and 15 can at its third attempt alone."""
    ran(f"book {','.join(keys)}")
    rows = [{"order_id": bought.id, "amount": bought.amount} for bought in orders]
    tx.execute(insert(attempts), rows)
    if any(bought.amount == 13 for bought in orders):
        raise ValueError("13 is no amount")
    ran_alone = Path(os.environ["SHOP_RUNS"]).read_text().split("\n")
    if any(bought.amount == 15 and ran_alone.count(f"book {bought.id}") < 3 for bought in orders):
        raise TimeoutError("the bank does not answer")
    tx.execute(insert(payments), rows)
    return [{"booked": bought.amount} for bought in orders]


@task_success.connect
def succeeded(sender: Any, **_: object) -> None:
    """Note, where SHOP_HEARD names a file, the id of each task that Celery's signal tells of."""
    if "SHOP_HEARD" in os.environ:
        with Path(os.environ["SHOP_HEARD"]).open("a") as heard:
            heard.write(f"{sender.request.id}\n")


@reliable.task(name="shop.mail", batch=int(os.environ.get("SHOP_BATCH", "1")))
def mail(to: str, key: Key) -> None:
    """Tell somebody; the key is what a mail server would be given to notice a repetition."""
    ran(f"mail {to} {key}")
    time.sleep(float(os.environ.get("SHOP_SECONDS", "0")))


@reliable.task(name="shop.pick")
def pick(number: int, seconds: float) -> None:
    """Pick something, in this time; how many are picked together is measured."""
    ran(f"pick {os.getpid()} {number}")
    if seconds:
        time.sleep(seconds)


@reliable.task(name="shop.ship", retry=Retry(on=(TimeoutError,), attempts=3, first=0.1, longest=1))
def ship(to: str, reachable_at: int) -> None:
    """Ship, to a carrier that answers at the try with that number, from 1."""
    ran(f"ship {to}")
    if Path(os.environ["SHOP_RUNS"]).read_text().split("\n").count(f"ship {to}") < reachable_at:
        raise TimeoutError("the carrier does not answer")


@reliable.task(name="shop.refuse")
def refuse(why: str) -> None:
    """Refuse at once."""
    ran(f"refuse {why}")
    raise DeadLetter(why)


@reliable.task(name="shop.total")
def total(booked: dict[str, int]) -> None:
    """Follow a charge."""
    ran(f"total {booked['booked']}")


@app.task(name="shop.plain", shared=False)  # or each app of a test's process would have it
def plain(what: str) -> None:
    """The app's own task, on the app's own queue."""
    ran(f"plain {what}")
