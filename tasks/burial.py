"""``tasks.bury``: a copy of a bad message goes to the dead letters, confirmed, with its reason."""

import base64
import socket
import time
from typing import Any

from celery import Task
from celery.exceptions import Reject
from kombu import Producer

from baozi.errors import BrokerError, PutRefused
from baozi.settings import settings
from tasks import topology
from tasks.app import app
from tasks.confirms import ConfirmedChannel
from tasks.connection import connect
from tasks.letter import CONSUMER, DELIVERIES, DIED_AT, REASON, as_it_came, deliveries, send_on

#: The task's name.
BURY = "tasks.bury"

#: Characters of a reason: a header must fit, with the others, in one AMQP frame (128 KiB).
_LONGEST_REASON = 1000


@app.task(bind=True, name=BURY, ignore_result=True)
def bury(self: Task[Any, Any], letter: dict[str, Any]) -> None:
    """Publish ``letter`` (as :mod:`tasks.consumer` made it) to the dead letters.

    Raises:
        Reject: the broker did not take it; the message stays in the queue, and comes again.
    """
    headers = {
        **as_it_came(letter["headers"]),
        REASON: letter["reason"][:_LONGEST_REASON],
        CONSUMER: f"{self.request.hostname or socket.gethostname()}",
        DIED_AT: time.time(),
        DELIVERIES: deliveries(letter["headers"]),
    }

    def send(producer: Producer) -> None:
        body, key = base64.b64decode(letter["body"]), letter["routing_key"] or topology.NAME
        send_on(producer, body, headers, letter["properties"], topology.DEAD, key)

    timeout = settings().broker_timeout
    try:
        channel = ConfirmedChannel(connect("burial"))
        try:
            channel.publish(send, deadline=time.monotonic() + timeout)
        finally:
            channel.close()
    except (BrokerError, PutRefused) as error:
        raise Reject(error, requeue=True) from error
