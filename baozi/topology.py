"""The one place that declares queues.

``baozi``, where a baozi waits; ``baozi.dead``, where it is kept; ``baozi.ledger``, which names the ledger.
"""

from amqp.exceptions import AccessRefused, PreconditionFailed
from kombu import Connection, Exchange, Queue

from baozi.errors import TopologyMismatch
from baozi.settings import Settings

#: Name of the exchange, of the queue, and of the routing key between them.
NAME = "baozi"
#: Name of the dead letters' exchange and queue.
DEAD = "baozi.dead"
#: Name of the queue one of whose arguments is the ledger's id (:mod:`baozi.belonging`).
LEDGER = "baozi.ledger"

#: RabbitMQ drops a message whose delivery count passes its queue's limit, and from 4.0 on the default limit
#: is 20 (RabbitMQ guide "Quorum Queues", Poison Message Handling). Looking through the dead letters counts as
#: a delivery, so their limit is one that nobody reaches. 4.0 alone knows -1 for "none"; 3.10 refuses it.
_NO_LIMIT = 1_000_000_000

#: A topic exchange, for Celery's native delayed delivery binds its own keys to it.
TYPE = "topic"
exchange = Exchange(NAME, type=TYPE, durable=True)
dead_exchange = Exchange(DEAD, type=TYPE, durable=True)


def queue(settings: Settings) -> Queue:
    """Return the queue that workers eat from.

    Quorum: replicated, on the disk before a confirm. ``reject-publish`` refuses what is over the capacity
    rather than dropping the oldest, and is what at-least-once dead-lettering needs (RabbitMQ guide "Quorum
    Queues", Activating at-least-once dead-lettering).
    """
    arguments: dict[str, str | int] = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-delivery-limit": settings.delivery_limit,
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-strategy": "at-least-once",
    }
    if settings.capacity is not None:
        arguments["x-max-length"] = settings.capacity
    return Queue(NAME, exchange, routing_key=NAME, durable=True, queue_arguments=arguments)


def declared_queue() -> Queue:
    """Return the same queue for Celery, which would declare it with each connection.

    ``declare`` does that, so that a worker can do without the permission to: who may declare, may delete.
    """
    there = Exchange(NAME, type=TYPE, no_declare=True)
    arguments = {"x-queue-type": "quorum"}  # what Celery looks at: it turns global QoS off
    return Queue(NAME, there, routing_key=NAME, no_declare=True, queue_arguments=arguments)


def dead_queue() -> Queue:
    """Return the queue of the dead letters: bound to every key, for a letter keeps the key it came with."""
    arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": _NO_LIMIT}
    return Queue(DEAD, dead_exchange, routing_key="#", durable=True, queue_arguments=arguments)


def ledger_queue(ledger_id: str) -> Queue:
    """Return the queue that names the ledger. It stays empty, so its arguments have no other effect."""
    arguments = {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-routing-key": ledger_id,
    }
    return Queue(LEDGER, durable=True, queue_arguments=arguments)


def see_that_it_is_there(connection: Connection) -> None:
    """Look for the queue, for who was accepted by it: where it was deleted, what it held is lost.

    To declare it again without a word would hide that. Nobody needs a permission to look.

    Raises:
        amqp.exceptions.NotFound: it is gone.
    """
    with connection.channel() as channel:
        Queue(NAME)(channel).queue_declare(passive=True)


def declare(connection: Connection, settings: Settings) -> None:
    """Declare all of it; what is there already, as it should be, stays as it is.

    A user that may not configure, as a producer in production, is content with what an administrator made:
    a mandatory message tells it soon enough if something is missing.

    Raises:
        TopologyMismatch: a queue is there with other arguments.
    """
    # The dead letters first: at no time is there a queue whose dead have nowhere to go.
    for wanted in (dead_queue(), queue(settings)):
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
