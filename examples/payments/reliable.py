"""The same payments with ``Reliable``: a payment's id is its key."""

import os
from typing import Any

from baozi import Reliable, Transaction
from celery import Celery
from examples.payments.transfer import transfer

app = Celery("payments", broker=os.environ["PAYMENTS_BROKER"], set_as_current=False)
reliable = Reliable(app, queue="payments", ledger=os.environ["PAYMENTS_DATABASE"])


@reliable.task(name="payments.pay", key=lambda payment: payment["id"])
def pay(payment: dict[str, Any], tx: Transaction) -> None:
    """Book one payment, in the transaction that records that it is booked."""
    transfer(tx, payment)
