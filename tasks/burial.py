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
from tasks.letter import (
    CONSUMER,
    DELIVERIES,
    DIED_AT,
    REASON,
    TRACEBACK,
    Original,
    as_it_came,
    buried,
    send_on,
)

#: The task's name.
BURY = "tasks.bury"

#: Characters of a reason, and of the end of a traceback.
_LONGEST_REASON, _LONGEST_TRACEBACK = 1000, 4000


@app.task(bind=True, name=BURY, ignore_result=True)
def bury(self: Task[Any, Any], letter: dict[str, Any]) -> None:
    """Publish ``letter`` (as :mod:`tasks.consumer` made it) to the dead letters.

    Raises:
        Reject: the broker did not take it; the message stays in the queue, and comes again.
    """
    facts = {
        REASON: letter["reason"][:_LONGEST_REASON],
        CONSUMER: f"{self.request.hostname or socket.gethostname()}",
        DIED_AT: time.time(),
        DELIVERIES: letter["deliveries"],
    }
    if letter["traceback"]:
        facts[TRACEBACK] = letter["traceback"][-_LONGEST_TRACEBACK:]
    body, properties = (base64.b64decode(letter[part]) for part in ("body", "properties"))
    original = Original(body, as_it_came(properties))

    timeout = settings().broker_timeout
    try:
        channel = ConfirmedChannel(connect("burial"))
        whole = buried(original, facts, channel.frame_max if channel.takes_frames else None)

        def send(producer: Producer) -> None:
            send_on(producer, whole, topology.DEAD, letter["routing_key"] or topology.NAME)

        try:
            channel.publish(send, deadline=time.monotonic() + timeout)
        finally:
            channel.close()
    except (BrokerError, PutRefused) as error:
        raise Reject(error, requeue=True) from error
