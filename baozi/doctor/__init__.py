"""``baozi doctor``: finds known dangers in a Celery app on RabbitMQ. It only reads."""
