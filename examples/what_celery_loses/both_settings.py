"""Late acknowledgement, and the message of a killed pool process returns to the queue."""

from celery import Celery

app = Celery("both_settings", broker="amqp://")
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
