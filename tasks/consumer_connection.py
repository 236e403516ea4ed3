"""The worker's step that connects, with what it tells of the connection."""

from typing import Any

from celery.worker.consumer.connection import Connection as CeleryConnection


class Connection(CeleryConnection):
    """Celery's step. It answers ``celery inspect stats`` with what can travel as JSON."""

    def info(self, c: Any) -> Any:
        """Return what is shown of the connection, without its options: one of them is a function."""
        told: Any = super().info(c)
        if isinstance(told["broker"], dict):
            told["broker"].pop("transport_options", None)
        return told
