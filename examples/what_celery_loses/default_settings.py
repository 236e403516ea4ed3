"""Celery's default settings, on the classic queue that Celery declares."""

from celery import Celery

app = Celery("default_settings", broker="amqp://")
