"""The Celery app: ``celery -A tasks worker``."""

from celery import Celery

from tasks.config import celery_settings

app = Celery("baozi", include=["tasks.eating", "tasks.burial"], set_as_current=False)
app.add_defaults(celery_settings)
