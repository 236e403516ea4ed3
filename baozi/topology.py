"""Declares the queues: the guarded queue, and two queues that are named after it.

``NAME`` has the messages, and ``NAME.dead`` has the dead letters. ``NAME.ledger`` is always empty: one of its
arguments is the ledger's id.
"""

from dataclasses import dataclass
from typing import Self

from amqp.exceptions import AccessRefused, PreconditionFailed
from kombu import Connection, Exchange, Queue

from baozi.errors import TopologyMismatch
from baozi.settings import Settings

#: RabbitMQ drops a message whose delivery count passes its queue's limit, and from 4.0 on the default limit
#: is 20 (RabbitMQ guide "Quorum Queues", Poison Message Handling). Browsing the dead letters counts as a
#: delivery, so their limit is higher than any count. RabbitMQ 4.0 accepts -1 for "none"; 3.10 refuses it.
_NO_LIMIT = 1_000_000_000

#: The type of the exchange. Celery's native delayed delivery needs a topic exchange for its own keys.
TYPE = "topic"


@dataclass(frozen=True)
class Topology:
    """A guarded queue and its two other queues. Exchanges and routing keys have the names of their queues."""

    name: str
    delivery_limit: int = 20
    """How often a message may return to the queue before it is dead-lettered."""
    capacity: int | None = None
    """How many messages the queue holds before it refuses more; None for no limit."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the topology of the queue and the limits in ``settings``."""
        return cls(settings.queue, settings.delivery_limit, settings.capacity)

    @property
    def dead(self) -> str:
        """The name of the dead letters' exchange and queue."""
        return f"{self.name}.dead"

    @property
    def ledger(self) -> str:
        """The name of the queue that has the ledger's id as an argument (:mod:`baozi.queue_ownership`)."""
        return f"{self.name}.ledger"

    def queue(self) -> Queue:
        """Return the queue that workers consume.

        It is a quorum queue: replicated, and on disk before a confirm. ``reject-publish`` refuses messages
        over the capacity instead of dropping the oldest. At-least-once dead-lettering requires it (RabbitMQ
        guide "Quorum Queues", Activating at-least-once dead-lettering).
        """
        arguments: dict[str, str | int] = {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-delivery-limit": self.delivery_limit,
            "x-dead-letter-exchange": self.dead,
            "x-dead-letter-strategy": "at-least-once",
        }
        if self.capacity is not None:
            arguments["x-max-length"] = self.capacity
        exchange = Exchange(self.name, type=TYPE, durable=True)
        return Queue(self.name, exchange, routing_key=self.name, durable=True, queue_arguments=arguments)

    def declared_queue(self) -> Queue:
        """Return the same queue for Celery's settings, marked so that Celery does not declare it.

        Celery would declare it with each connection. :meth:`declare` does it instead, so that a worker does
        not need the permission to declare, with which it could also delete the queue.
        """
        there = Exchange(self.name, type=TYPE, no_declare=True)
        arguments = {"x-queue-type": "quorum"}  # Celery checks this argument, and turns global QoS off
        return Queue(self.name, there, routing_key=self.name, no_declare=True, queue_arguments=arguments)

    def dead_queue(self) -> Queue:
        """Return the dead-letter queue. It is bound with every key, because a dead letter keeps its own."""
        exchange = Exchange(self.dead, type=TYPE, durable=True)
        arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": _NO_LIMIT}
        return Queue(self.dead, exchange, routing_key="#", durable=True, queue_arguments=arguments)

    def ledger_queue(self, ledger_id: str) -> Queue:
        """Return the queue with the ledger's id. It stays empty, so its arguments have no other effect."""
        arguments = {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": self.dead,
            "x-dead-letter-routing-key": ledger_id,
        }
        return Queue(self.ledger, durable=True, queue_arguments=arguments)

    def check_queue_exists(self, connection: Connection) -> None:
        """Check that the queue still exists. If it was deleted, the messages in it are lost.

        Declaring it again would hide that. The check needs no permission.

        Raises:
            amqp.exceptions.NotFound: the queue does not exist.
        """
        with connection.channel() as channel:
            Queue(self.name)(channel).queue_declare(passive=True)

    def window(self, wanted: int) -> int:
        """Return the largest number of unconfirmed messages: ``wanted``, or 1 if the queue has a capacity.

        A queue with a capacity may refuse a message and accept the next one. To keep their sequence, only one
        message is sent at a time.
        """
        return wanted if self.capacity is None else 1

    def declare_for_producer(self, connection: Connection, again: bool) -> None:
        """Declare all queues. If this is ``again``, on a new connection, first check that the queue exists.

        Raises:
            amqp.exceptions.NotFound: the queue was deleted.
            TopologyMismatch: a queue exists with other arguments.
        """
        if again:
            self.check_queue_exists(connection)
        self.declare(connection)

    def declare(self, connection: Connection) -> None:
        """Declare all queues. Existing ones with these arguments stay unchanged.

        If the user has no permission to declare, this does nothing, because an administrator has made the
        queues. If one is missing, the broker returns a mandatory message, which raises an error then.

        Raises:
            TopologyMismatch: a queue exists with other arguments.
        """
        # The dead-letter queue first, so that the guarded queue never exists without it.
        for wanted in (self.dead_queue(), self.queue()):
            try:
                with connection.channel() as channel:
                    wanted(channel).declare()
            except PreconditionFailed as error:
                raise TopologyMismatch(
                    "The queue {name} exists with other arguments: use the delivery limit and the"
                    " capacity it was made with, or delete it first. The broker says: {reply_text}.",
                    name=wanted.name,
                    reply_text=error.reply_text,
                ) from error
            except AccessRefused:
                return
