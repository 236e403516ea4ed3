"""Both settings, on a quorum queue."""

from celery import Celery

app = Celery("quorum_queue", broker="amqp://")
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
app.conf.task_default_queue_type = "quorum"
app.conf.task_default_exchange_type = "topic"
