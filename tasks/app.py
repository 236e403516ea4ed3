"""The Celery app: ``celery -A tasks worker``."""

from celery import Celery

from baozi import Reliable

app = Celery("baozi", include=["tasks.eating"], set_as_current=False)
reliable = Reliable.from_settings(app)
