"""A task of plain Celery that commits the same INSERT with SQLAlchemy.

``python -m benchmarks.peers.insert_celery_peer`` publishes, ``celery -A`` with this module executes.
"""

from functools import cache
from typing import Any

from sqlalchemy import Engine, create_engine, insert, make_url

from benchmarks.bought import bought
from benchmarks.peers.celery_peer import app, bench
from benchmarks.publishing import item, parser, publish


@cache
def engine() -> Engine:
    """Return the engine of this process: it is made after the pool process was forked."""
    url = make_url(bench.database)
    return create_engine(url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url)


@app.task(name="buy")
def buy(baozi: dict[str, Any]) -> None:
    """Insert one row, and commit it."""
    with engine().begin() as connection:
        connection.execute(insert(bought).values(number=baozi["number"], made_at=baozi["made_at"]))


if __name__ == "__main__":
    publish(parser().parse_args(), lambda number: buy.delay(item(number)))
