"""The consumer side: the Celery app, and eating.

``celery -A tasks worker -n 小明@%h`` starts a worker whose consumer is 小明.
"""

from tasks.app import app

__all__ = ["app"]
