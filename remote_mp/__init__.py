"""multiprocessing's own Queue and JoinableQueue, on RabbitMQ, across machines."""

from remote_mp.queues import JoinableQueue, Queue
from remote_mp.serializers import Unreadable

__all__ = ["JoinableQueue", "Queue", "Unreadable"]
