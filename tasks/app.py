"""The Celery app: ``celery -A tasks worker``."""

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any

from celery import Celery

from baozi.upstream.forking import without_parents_connections
from baozi.upstream.soft_shutdown import SoftShutdown
from tasks.config import celery_settings

#: Kept once they could be read; an error is not.
_settings = cache(celery_settings)


class _WhenNeeded(Mapping[str, Any]):
    """Celery's settings, read when the first one is needed, not at import.

    Each need tries again after an error. What ``add_defaults`` is given, Celery asks once: after an error it
    would go on with settings of its own, and send to another queue.
    """

    def __getitem__(self, name: str) -> Any:
        """Return one setting."""
        return _settings()[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over their names."""
        return iter(_settings())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(_settings())


class _App(Celery):
    """Celery's app, whose worker exits with our exit codes."""

    @cached_property
    def Worker(self) -> Any:  # Celery's name
        """The worker's class."""
        where: Any = "baozi.upstream.worker:Worker"
        return self.subclass_with_self(where)


app = _App(
    "baozi",
    include=["tasks.eating"],
    events="baozi.upstream.events:Events",
    set_as_current=False,
)
app.config_from_object(_WhenNeeded())
app.steps["worker"].add(SoftShutdown)
without_parents_connections(app)
