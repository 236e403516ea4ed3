"""``baozi doctor``: what a Celery app on RabbitMQ can lose, repeat or stop, found by looking only."""
