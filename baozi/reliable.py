"""The guarantee for a Celery app: its queue, its ledger, and the settings that both need."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, worker_process_init
from sqlalchemy import URL

from baozi.amqp.connection import broker_url
from baozi.settings import settings
from baozi.topology import Topology
from baozi.upstream.forking import without_parents_connections
from baozi.upstream.soft_shutdown import SoftShutdown
from baozi.worker.configuration import CONFIRMED, celery_settings

#: The one whose worker this process is, or a pool process of. At most one.
_at_work: "list[Reliable]" = []


class Reliable:
    """What the workers of one app guard: a queue, with a ledger."""

    def __init__(self, app: Celery) -> None:
        """Guard ``app`` as the settings ``BAOZI_…`` say.

        They are read when the first one is needed, not at import: an app can be imported where no broker is
        known.

        Args:
            app: the Celery app. It must have no settings of its own.
        """
        self.app = app
        guarded: Any = app
        guarded.reliable = self
        guarded.events_cls = "baozi.upstream.events:Events"
        guarded.Worker = self._worker
        guarded.steps["worker"].add(SoftShutdown)
        without_parents_connections(app)
        app.config_from_object(_WhenNeeded())

    @property
    def topology(self) -> Topology:
        """The queue, its dead letters' and its ledger's."""
        return Topology.of(settings())

    @property
    def ledger(self) -> URL:
        """The ledger's SQLAlchemy URL."""
        return settings().ledger

    @property
    def broker(self) -> str:
        """The broker's URL, password and all: not for a log.

        Raises:
            NoBroker: none is known.
            UsageError: one of Celery's own variables names another broker.
        """
        return broker_url()

    def work(self) -> None:
        """Have :func:`at_work` return this one: called in a worker before its pool starts."""
        _at_work[:] = [self]

    def _worker(self, *arguments: Any, **options: Any) -> Any:
        """Make the worker; Celery's commands call this ``app.Worker``."""
        where: Any = "baozi.upstream.worker:Worker"
        return self.app.subclass_with_self(where)(*arguments, **options)


def of(app: Any) -> Reliable:
    """Return the guarantee of ``app``, which has one."""
    found: Reliable = app.reliable
    return found


def at_work() -> Reliable:
    """Return the guarantee of this process's worker. A pool process has that of its main process."""
    return _at_work[-1]


@celeryd_init.connect
def check(instance: Any = None, conf: Any = None, options: dict[str, Any] | None = None, **_: object) -> None:
    """Check, before a worker of a guarded app starts, what its promises need."""
    # Only a worker needs these two. Other processes of the app, such as a web server, do not load them.
    from baozi.upstream import logs  # noqa: F401, PLC0415  # it listens to Celery's set-up of the log
    from baozi.worker import startup  # noqa: PLC0415  # it loads Celery's worker

    found: Reliable | None = getattr(instance.app, "reliable", None)
    if found is not None:
        found.work()
        startup.check(found, instance, conf, options or {})


@worker_process_init.connect
def confirm_in_children(**_: object) -> None:
    """Let tasks of a pool process publish with confirms and bounded waits; its main process does without."""
    if _at_work:
        at_work().app.conf.broker_transport_options = CONFIRMED


#: Kept once they could be read; an error is not.
_settings = cache(celery_settings)


class _WhenNeeded(Mapping[str, Any]):
    """Celery's settings, read when the first one is needed, not at import.

    After an error they are read again at the next need. ``add_defaults`` would be asked only once: after an
    error Celery would use its default settings, and send to another queue.
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
