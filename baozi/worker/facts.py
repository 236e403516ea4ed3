"""What a worker adds to Celery's statistics, for `celery inspect stats` and `baozi status`."""

from collections.abc import Sequence
from typing import Any

import baozi
from baozi.settings import settings
from baozi.topology import Topology


def facts(topology: Topology, ledger_ids: Sequence[str], batches: int) -> dict[str, Any]:
    """Return a worker's release, its settings without secrets, and its number of batches.

    Args:
        topology: its queues.
        ledger_ids: the id of its ledger; empty if the ledger was not opened.
        batches: how many batches are in its pool processes now.
    """
    chosen = settings()
    return {
        "version": baozi.__version__,
        "batches": batches,
        "settings": {
            "queue": topology.name,
            "delivery_limit": topology.delivery_limit,
            "capacity": topology.capacity,
            "ledger": next(iter(ledger_ids), None),
            "ledger_timeout": chosen.ledger_timeout,
            "broker_timeout": chosen.broker_timeout,
            "eat_seconds": chosen.eat_seconds,
            "eat_time_limit": chosen.eat_time_limit,
            "batch_ms": chosen.batch_ms,
            "tray": chosen.tray,
            "task_events": chosen.task_events,
            "soft_shutdown_timeout": chosen.soft_shutdown_timeout,
        },
    }
