"""Late acknowledgement, and nothing else."""

from celery import Celery

app = Celery("late_acknowledgement", broker="amqp://")
app.conf.task_acks_late = True
