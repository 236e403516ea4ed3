"""The Celery app of the course. ``celery -A tasks worker`` starts a worker of it."""

from celery import Celery

from baozi import Reliable

app = Celery("baozi", include=["tasks.eating"], set_as_current=False)
reliable = Reliable.from_settings(app)
