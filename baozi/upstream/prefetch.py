"""Changes a worker's prefetch count while it consumes.

Celery changes it for a whole channel ("global QoS"), and quorum queues refuse that. For one consumer the
count is fixed. So the queue gets a new consumer with the new count, after the old one was cancelled. Messages
that the old one has prefetched stay with the worker, and are acknowledged as usual.

Upstream: celery/celery#9512 is about prefetch counts that do not change with quorum queues.
Checked with: celery 5.7.0, kombu 5.7.0, amqp 5.4.2.
"""

from typing import Any


def consume_with_prefetch(consumer: Any, queue: str, count: int) -> None:
    """Consume ``queue`` with another prefetch count, if the worker consumes it now.

    This waits for the broker's answers. Messages that arrive meanwhile are handled.

    Args:
        consumer: Celery's consumer.
        queue: the queue's name.
        count: how many unacknowledged messages the queue's consumer may have.
    """
    tasks = consumer.task_consumer
    tag = tasks._active_tags.get(queue) if tasks is not None else None
    if tag is None:
        return
    channel = tasks.channel
    channel.basic_cancel(tag)
    # A remote command that arrived meanwhile may have cancelled the consumer too.
    if tasks._active_tags.get(queue) != tag:
        return
    channel.basic_qos(0, count, False)
    del tasks._active_tags[queue]
    tasks._basic_consume(tasks._queues[queue], no_ack=False, nowait=True)
    # Another queue that the worker is told to consume later gets the usual count.
    channel.basic_qos(0, consumer.qos.value, False)
