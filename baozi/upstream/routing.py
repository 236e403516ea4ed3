"""A guarded app's queues and routes: only reliable tasks go to the guarded queue.

Celery takes queues and routes from the settings. To add to those would change them for the app's own tasks:
with ``task_queues`` set, the default queue is no longer made. So they are added behind the settings.

Upstream: no thread is known. Celery documents it so (``task_queues``).
Checked with: celery 5.7.0.
"""

from typing import Any

from celery.app.amqp import AMQP as CeleryAMQP


class AMQP(CeleryAMQP):
    """Celery's, with the queue of the app's guarantee."""

    app: Any
    _rtable: Any

    def Queues(self, queues: Any, *arguments: Any, **options: Any) -> Any:  # Celery's name
        """Return the app's queues; a worker that is given none by ``-Q`` consumes the guarded one too."""
        made: Any = super().Queues(queues, *arguments, **options)
        made.select_add(self.app.reliable.topology.declared_queue())
        return made

    def flush_routes(self) -> None:
        """Make the routes: first those of the reliable tasks, which no setting of the app leads elsewhere."""
        super().flush_routes()
        self._rtable = [self._route, *(self._rtable or ())]

    def _route(self, name: str, *_: Any, task: Any = None, **__: Any) -> dict[str, Any] | None:
        """Return where a message goes; called by Celery's router with the task's name, if it knows it."""
        reliable: Any = self.app.reliable
        found = task if task is not None else self.app.tasks.get(name)
        mine = getattr(found, "reliable", None) is reliable
        return {"queue": reliable.topology.name, "mandatory": True} if mine else None
