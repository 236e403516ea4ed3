"""Payments with Celery alone, as its documentation advises where nothing may be lost.

The pages of https://docs.celeryq.dev/en/stable/ are named where they are followed. With ``acks_late``,
"Tasks" asks for an idempotent function. A transfer is none, and how to make it one is left to the user.
"""

import os
from typing import Any

from celery import Celery
from examples.payments.transfer import transfer
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

app = Celery("payments", broker=os.environ["PAYMENTS_BROKER"], set_as_current=False)
app.conf.update(
    # userguide/tasks.html#Task.acks_late: acknowledge a message after its task has run.
    task_acks_late=True,
    # userguide/configuration.html#task-reject-on-worker-lost: and not when its process was killed.
    task_reject_on_worker_lost=True,
    # getting-started/backends-and-brokers/rabbitmq.html#using-quorum-queues
    task_default_queue_type="quorum",
    # The same page: with publisher confirms, apply_async returns when the broker has the message.
    broker_transport_options={"confirm_publish": True},
    # userguide/configuration.html#broker-connection-max-retries: wait for the broker for ever.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # The same page, worker_cancel_long_running_tasks_on_connection_loss: end what would run a second time.
    worker_cancel_long_running_tasks_on_connection_loss=True,
    # RabbitMQ 4.3 refuses the queues that these two settings are not given for.
    control_queue_exclusive=True,
    event_queue_exclusive=True,
)
engine = create_engine(os.environ["PAYMENTS_DATABASE"], pool_pre_ping=True)


# userguide/tasks.html#automatic-retry-for-known-exceptions
@app.task(
    name="payments.pay",
    autoretry_for=(OperationalError,),
    retry_backoff=True,
    retry_kwargs={"max_retries": 10},
)
def pay(payment: dict[str, Any]) -> None:
    """Book one payment."""
    with engine.begin() as tx:
        transfer(tx, payment)
