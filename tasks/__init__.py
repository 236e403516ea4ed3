"""The consumers of the course: a Celery app whose tasks eat baozi.

``celery -A tasks worker -n 小明@%h`` starts a worker whose consumer is 小明.
"""

from tasks.app import app

__all__ = ["app"]
