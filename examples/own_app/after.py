"""A shop's Celery app."""

from baozi import Reliable, Retry, Transaction
from celery import Celery
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert

app = Celery("shop", broker="amqp://guest:guest@localhost//")
engine = create_engine("sqlite:///shop.sqlite3")
reliable = Reliable(app, queue="shop", ledger=engine)
metadata = MetaData()
payments = Table("payments", metadata, Column("order_id", String), Column("amount", Integer))


@reliable.task(name="shop.charge", key=lambda order: order["id"], retry=Retry(on=(TimeoutError,), attempts=5))
def charge(order: dict[str, str | int], tx: Transaction) -> None:
    """Book the payment of one order."""
    tx.execute(insert(payments).values(order_id=order["id"], amount=order["amount"]))


@app.task(name="shop.greet")
def greet(name: str) -> None:
    """Greet a customer."""
    print(f"Hello {name}")


if __name__ == "__main__":
    metadata.create_all(engine)
    for order_id in ["o-1", "o-2", "o-1"]:  # the customer has clicked twice
        charge.delay({"id": order_id, "amount": 42})
    greet.delay("Egon")
