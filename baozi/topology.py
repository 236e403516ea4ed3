"""Declares the queues: one guarded queue, and two that are named after it.

They are ``NAME`` with the messages, ``NAME.dead`` with the dead letters, and ``NAME.ledger``, which has the
ledger's id as an argument.
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

#: A topic exchange, because Celery's native delayed delivery binds its own keys to it.
TYPE = "topic"


@dataclass(frozen=True)
class Topology:
    """A guarded queue with its two other queues. The exchange and the routing key of each have its name."""

    name: str
    delivery_limit: int = 20
    """How often a message may be given back before it goes to the dead letters."""
    capacity: int | None = None
    """How many messages the queue holds before it refuses more; None for no bound."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the topology of the queue and the limits in ``settings``."""
        return cls(settings.queue, settings.delivery_limit, settings.capacity)

    @property
    def dead(self) -> str:
        """Name of the dead letters' exchange and queue."""
        return f"{self.name}.dead"

    @property
    def ledger(self) -> str:
        """Name of the queue one of whose arguments is the ledger's id (:mod:`baozi.queue_ownership`)."""
        return f"{self.name}.ledger"

    def queue(self) -> Queue:
        """Return the queue that workers consume.

        It is a quorum queue: replicated, and on disk before a confirm. ``reject-publish`` refuses messages
            over
        the capacity instead of dropping the oldest. At-least-once dead-lettering requires it (RabbitMQ guide
        "Quorum Queues", Activating at-least-once dead-lettering).
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
        """Return the same queue for Celery, which would declare it with each connection.

        Here :meth:`declare` does it, so that a worker needs no permission to declare, which includes
        deleting.
        """
        there = Exchange(self.name, type=TYPE, no_declare=True)
        arguments = {"x-queue-type": "quorum"}  # what Celery looks at: it turns global QoS off
        return Queue(self.name, there, routing_key=self.name, no_declare=True, queue_arguments=arguments)

    def dead_queue(self) -> Queue:
        """Return the queue of the dead letters. It is bound to every key: a letter keeps its own."""
        exchange = Exchange(self.dead, type=TYPE, durable=True)
        arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": _NO_LIMIT}
        return Queue(self.dead, exchange, routing_key="#", durable=True, queue_arguments=arguments)

    def ledger_queue(self, ledger_id: str) -> Queue:
        """Return the queue that names the ledger. It stays empty, so its arguments have no other effect."""
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
        """Return how many unconfirmed messages a producer may have; at most ``wanted``.

        A queue with a capacity may refuse a message and accept the next one. One at a time keeps the order.
        """
        return wanted if self.capacity is None else 1

    def declare_for_producer(self, connection: Connection, again: bool) -> None:
        """Declare all queues. If they are declared ``again``, first check that the queue still exists.

        Raises:
            amqp.exceptions.NotFound: the queue was deleted.
            TopologyMismatch: a queue exists with other arguments.
        """
        if again:
            self.check_queue_exists(connection)
        self.declare(connection)

    def declare(self, connection: Connection) -> None:
        """Declare all queues. Existing ones with these arguments stay unchanged.

        If the user has no permission to declare, this does nothing: an administrator has made the queues. If
            one
        is missing, a mandatory message is returned.

        Raises:
            TopologyMismatch: a queue exists with other arguments.
        """
        # The queue of the dead letters first, so that the guarded queue never exists without it.
        for wanted in (self.dead_queue(), self.queue()):
            try:
                with connection.channel() as channel:
                    wanted(channel).declare()
            except PreconditionFailed as error:
                raise TopologyMismatch(
                    f"The queue {wanted.name} exists with other arguments: use the delivery limit and the"
                    f" capacity it was made with, or delete it first. The broker says: {error.reply_text}."
                ) from error
            except AccessRefused:
                return
