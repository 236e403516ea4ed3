"""A task of Baozi with one INSERT of its own, in the ledger's transaction (docs/how-to/own-transaction.md).

``python -m benchmarks.peers.insert_baozi_peer`` publishes, ``celery -A`` with this module executes.
"""

from typing import Any

from celery import Celery
from sqlalchemy import insert

from baozi import Reliable, Transaction
from benchmarks.bench import Bench
from benchmarks.bought import bought
from benchmarks.publishing import item, parser, publish

bench = Bench.here()
app = Celery("peer", broker=bench.url, set_as_current=False)
reliable = Reliable(app, queue="bought", ledger=bench.database)


@reliable.task(name="buy", key=lambda baozi: f"{baozi['producer']}/{baozi['number']}")
def buy(baozi: dict[str, Any], transaction: Transaction) -> None:
    """Insert one row."""
    transaction.execute(insert(bought).values(number=baozi["number"], made_at=baozi["made_at"]))


if __name__ == "__main__":
    with reliable.order("alex", run="bench") as order:
        publish(parser().parse_args(), lambda number: order.put(buy.s(item(number))))
