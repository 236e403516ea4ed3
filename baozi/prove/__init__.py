"""``baozi prove``: runs a user's own Celery app, injects faults, and counts what was lost or done twice."""
