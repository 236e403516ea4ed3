"""What the newest rows of the ledger tell: latency, rate, and who eats.

However many rows there are, a fixed number is fetched.
"""

import time
from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

from sqlalchemy import Connection, literal_column, select

from baozi.ledger_schema import eaten

#: How many rows are fetched.
NEWEST = 1000
#: Seconds before now whose rows are counted for the rate, if so many fit in :data:`NEWEST`.
_WINDOW = 60
#: How many consumers are named.
_CONSUMERS = 20


class EatenBaozi(NamedTuple):
    """One row of the ledger."""

    run: str
    consumer: str
    made_at: float
    eaten_at: float


def newest(connection: Connection) -> list[EatenBaozi]:
    """Return the newest rows of the ledger's table of eaten baozi, the newest first.

    SQLite finds them by their rowid, which grows with each row. PostgreSQL has to look at all rows, so the
    time that it needs grows with them.
    """
    of = eaten.c
    age = literal_column("rowid") if connection.dialect.name == "sqlite" else of.eaten_at
    wanted = select(of.run, of.consumer, of.made_at, of.eaten_at).order_by(age.desc()).limit(NEWEST)
    return [EatenBaozi(*row) for row in connection.execute(wanted)]


def facts(rows: Sequence[EatenBaozi]) -> dict[str, Any]:
    """Return latency, rate and consumers of the newest rows, for a page.

    The latency of a baozi is the time from when it was made until it was recorded as eaten.
    """
    now = time.time()
    recent = [row for row in rows if row.eaten_at > now - _WINDOW]
    # If all rows are recent, there may be more that were not fetched.
    seconds = now - min(row.eaten_at for row in recent) if len(recent) == NEWEST else float(_WINDOW)
    consumers = Counter(row.consumer for row in recent)
    latencies = sorted(max(0.0, row.eaten_at - row.made_at) for row in rows)
    return {
        "rows": len(rows),
        "per_second": len(recent) / max(seconds, 1e-3),
        "window_seconds": seconds,
        "consumers": [{"consumer": name, "eaten": n} for name, n in consumers.most_common(_CONSUMERS)],
        "consumers_in_all": len(consumers),
        "latency": {
            name: latencies[ceil(part * len(latencies)) - 1] if latencies else None
            for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
        },
        "newest_made_at": max((row.made_at for row in rows), default=None),
        "newest_eaten_at": max((row.eaten_at for row in rows), default=None),
    }
