"""Celery's delayed delivery, set up on the node that the worker is connected to.

Celery's own step connects to each node of ``broker_url``, one after the other, before the worker starts to
consume.

Upstream: celery/celery#9207 introduced the step. No thread about a node that is away is known.
Checked with: celery 5.7.0, kombu 5.7.0.
"""

from typing import Any

from celery.worker.consumer.delayed_delivery import DelayedDelivery as CeleryDelayedDelivery
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from baozi.amqp.connection import limit_waits
from baozi.settings import settings


class DelayedDelivery(CeleryDelayedDelivery):
    """Sets up the queues in which a baozi with a countdown waits.

    Celery's own step does so on every node of ``broker_url``, with four attempts for a node that is away. In
    a cluster one node is enough. The name lookup of a stopped node may take twenty seconds for each attempt,
    and the worker consumes nothing meanwhile.
    """

    def start(self, c: Any) -> None:
        """Set up the queues on the node to which the consumer is connected."""
        queue_type = c.app.conf.broker_native_delayed_delivery_queue_type
        # kombu does not close its channels. They are closed with this separate connection.
        with (
            c.connection.clone() as connection,
            limit_waits(connection, settings().broker_timeout),
        ):
            declare_native_delayed_delivery_exchanges_and_queues(connection, queue_type)
            for queue in c.app.amqp.queues.values():
                bind_queue_to_native_delayed_delivery_exchange(connection, queue)
