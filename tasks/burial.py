"""``tasks.bury``: a copy of a bad message goes to the dead letters, confirmed, with its reason."""

import base64
import socket
import time
from typing import Any

from celery import Task
from celery.exceptions import Reject
from kombu import Exchange, Producer

from baozi.errors import BrokerError, PutRefused
from baozi.settings import settings
from tasks import topology
from tasks.app import app
from tasks.confirms import ConfirmedChannel
from tasks.connection import connect

#: The task's name.
BURY = "tasks.bury"

#: Headers that a burial adds.
REASON, CONSUMER, DIED_AT = "baozi-reason", "baozi-consumer", "baozi-died-at"

#: Characters of a reason: a header must fit, with the others, in one AMQP frame (128 KiB).
_LONGEST_REASON = 1000


@app.task(bind=True, name=BURY, ignore_result=True)
def bury(self: Task[Any, Any], letter: dict[str, Any]) -> None:
    """Publish ``letter`` (as :mod:`tasks.consumer` made it) to the dead letters.

    Raises:
        Reject: the broker did not take it; the message stays in the queue, and comes again.
    """
    headers = {
        **letter["headers"],
        REASON: letter["reason"][:_LONGEST_REASON],
        CONSUMER: f"{self.request.hostname or socket.gethostname()}",
        DIED_AT: time.time(),
    }

    def send(producer: Producer) -> None:
        producer.publish(
            base64.b64decode(letter["body"]),
            exchange=topology.DEAD,
            routing_key=letter["routing_key"] or topology.NAME,
            content_type=letter["content_type"] or "application/octet-stream",
            content_encoding=letter["content_encoding"] or "binary",
            headers=headers,
            delivery_mode=Exchange.PERSISTENT_DELIVERY_MODE,
            mandatory=True,
            retry=False,
        )

    timeout = settings().broker_timeout
    try:
        channel = ConfirmedChannel(connect("burial"))
        try:
            channel.publish(send, deadline=time.monotonic() + timeout)
        finally:
            channel.close()
    except (BrokerError, PutRefused) as error:
        raise Reject(error, requeue=True) from error
