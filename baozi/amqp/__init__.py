"""The AMQP layer: connections, confirms, frames, reading, properties. It does not import Celery."""
