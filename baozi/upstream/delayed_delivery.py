"""Celery's delayed delivery, set up on the node that the worker is connected to.

Celery's own step connects to each node that ``broker_url`` names, one after the other, before the worker
works.

Upstream: celery/celery#9207 introduced the step. No thread is known of a node that is away.
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

    Celery's own step does so on every node that ``broker_url`` names, and tries four times where one is away.
    In a cluster one node is enough; and while it waits for the name of a stopped one to be looked up, which
    may take twenty seconds each time, the worker eats nothing.
    """

    def start(self, c: Any) -> None:
        """Set up, on the node that the consumer has found."""
        queue_type = c.app.conf.broker_native_delayed_delivery_queue_type
        # kombu leaves its channels open: a connection of its own, they go with it.
        with (
            c.connection.clone() as connection,
            limit_waits(connection, settings().broker_timeout),
        ):
            declare_native_delayed_delivery_exchanges_and_queues(connection, queue_type)
            for queue in c.app.amqp.queues.values():
                bind_queue_to_native_delayed_delivery_exchange(connection, queue)
