"""The one place that declares queues: those of one guarded queue, named after it.

``NAME``, where messages wait; ``NAME.dead``, where the dead ones are kept; ``NAME.ledger``, which names the
ledger.
"""

from dataclasses import dataclass
from typing import Self

from amqp.exceptions import AccessRefused, PreconditionFailed
from kombu import Connection, Exchange, Queue

from baozi.errors import TopologyMismatch
from baozi.settings import Settings

#: RabbitMQ drops a message whose delivery count passes its queue's limit, and from 4.0 on the default limit
#: is 20 (RabbitMQ guide "Quorum Queues", Poison Message Handling). Looking through the dead letters counts as
#: a delivery, so their limit is higher than any count. RabbitMQ 4.0 takes -1 for "none"; 3.10 refuses it.
_NO_LIMIT = 1_000_000_000

#: A topic exchange, for Celery's native delayed delivery binds its own keys to it.
TYPE = "topic"


@dataclass(frozen=True)
class Topology:
    """A queue, its dead letters' and its ledger's. The exchange and the routing key of each have its name."""

    name: str
    delivery_limit: int = 20
    """How often a message may be given back before it goes to the dead letters."""
    capacity: int | None = None
    """How many messages the queue holds before it refuses more; None for no bound."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return that of the queue, with the limits, that ``settings`` name."""
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

        Quorum: replicated, on the disk before a confirm. ``reject-publish`` refuses what is over the capacity
        rather than dropping the oldest, and is what at-least-once dead-lettering needs (RabbitMQ guide
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

        ``declare`` does that, so that a worker can do without the permission to: who may declare, may delete.
        """
        there = Exchange(self.name, type=TYPE, no_declare=True)
        arguments = {"x-queue-type": "quorum"}  # what Celery looks at: it turns global QoS off
        return Queue(self.name, there, routing_key=self.name, no_declare=True, queue_arguments=arguments)

    def dead_queue(self) -> Queue:
        """Return the queue of the dead letters: bound to every key, for a letter keeps its own."""
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

        To declare it again would hide that. The check needs no permission.

        Raises:
            amqp.exceptions.NotFound: it is gone.
        """
        with connection.channel() as channel:
            Queue(self.name)(channel).queue_declare(passive=True)

    def window(self, wanted: int) -> int:
        """Return how many messages a producer may have on the way at once, if it wants so many.

        Where a full queue refuses some, those behind them might still find room: one at a time keeps order.
        """
        return wanted if self.capacity is None else 1

    def declare_for_producer(self, connection: Connection, again: bool) -> None:
        """Declare all of it; a producer that declares it ``again`` first sees that the queue is still there.

        Raises:
            amqp.exceptions.NotFound: the queue was deleted.
            TopologyMismatch: a queue is there with other arguments.
        """
        if again:
            self.check_queue_exists(connection)
        self.declare(connection)

    def declare(self, connection: Connection) -> None:
        """Declare all of it; what is there already, as it should be, stays as it is.

        A user that may not configure, as a producer in production, is content with what an administrator
        made: a mandatory message tells it soon enough if something is missing.

        Raises:
            TopologyMismatch: a queue is there with other arguments.
        """
        # The dead letters first: at no time is there a queue whose dead have nowhere to go.
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
