"""Both settings, on a quorum queue, with publisher confirms."""

from celery import Celery

app = Celery("confirms", broker="amqp://")
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
app.conf.task_default_queue_type = "quorum"
app.conf.task_default_exchange_type = "topic"
app.conf.broker_transport_options = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}
