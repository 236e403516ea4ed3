"""What a worker does in addition to Celery: checks of messages, execution in batches."""
