"""The consumer side: the Celery app, its topology, the eat task and the dead letters.

``celery -A tasks worker -n 小明@%h`` starts a worker whose consumer is 小明.
"""

from baozi.upstream import logs
from tasks import startup  # their signal handlers must be known before a worker starts
from tasks.app import app

__all__ = ["app", "logs", "startup"]
