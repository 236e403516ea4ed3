"""A guarded app's queues and routes: only reliable tasks go to the guarded queue.

Celery takes queues and routes from the settings. Adding to the settings would also change them for the app's
own tasks: with ``task_queues`` set, Celery no longer makes the default queue. So the guarded queue and its
routes are added here, outside the settings.

Upstream: no thread is known. Celery documents it so (``task_queues``).
Checked with: celery 5.7.0.
"""

from typing import Any

from celery.app.amqp import AMQP as CeleryAMQP


class AMQP(CeleryAMQP):
    """Celery's AMQP class with the app's guarded queue."""

    app: Any
    _rtable: Any

    def Queues(self, queues: Any, *arguments: Any, **options: Any) -> Any:  # Celery's name
        """Return the app's queues. Without ``-Q`` a worker also consumes the guarded one."""
        made: Any = super().Queues(queues, *arguments, **options)
        made.select_add(self.app.reliable.topology.declared_queue())
        return made

    def flush_routes(self) -> None:
        """Make the routes. Those of the reliable tasks come first, so that no setting overrides them."""
        super().flush_routes()
        self._rtable = [self._route, *(self._rtable or ())]

    def _route(self, name: str, *_: Any, task: Any = None, **__: Any) -> dict[str, Any] | None:
        """Return the route of a message; None if the task is not reliable. Celery's router calls this."""
        reliable: Any = self.app.reliable
        found = task if task is not None else self.app.tasks.get(name)
        mine = getattr(found, "reliable", None) is reliable
        return {"queue": reliable.topology.name, "mandatory": True} if mine else None
