"""What a worker does beside Celery: it checks messages, and acknowledges many at once."""
