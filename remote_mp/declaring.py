"""What this package has on the broker, and how it is declared: the one place in it that does so.

========================== =================================================================================
``remote_mp.q.NAME``       the items of the queue NAME
``remote_mp.done.ID``      what others have done of what the process ID has put
``remote_mp.dead``         what was in a queue and is no item of it
========================== =================================================================================
"""

from dataclasses import dataclass
from typing import Any

from amqp.exceptions import PreconditionFailed
from kombu import Queue

from baozi.errors import TopologyMismatch

DEAD = "remote_mp.dead"

_DONE = "remote_mp.done."
#: Milliseconds after which the broker forgets a process that was killed, or could not reach it for so long.
_DONE_EXPIRES = 3_600_000
#: RabbitMQ 4 drops what was given back 20 times unless told otherwise (guide "Quorum Queues", Poison Message
#: Handling), and a consumer that ends gives back all that it had fetched: nobody reaches this.
_NO_LIMIT = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """One queue: what all that use it must agree on."""

    name: str
    maxsize: int
    """How many items it holds; 0 for no bound."""

    @property
    def queue(self) -> str:
        """Its name on the broker."""
        return f"remote_mp.q.{self.name}"

    def declare(self, channel: Any) -> None:
        """Declare it, and where the unreadable go.

        Raises:
            TopologyMismatch: it is there with another ``maxsize``.
        """
        # x-max-length is exact on a classic queue alone: a quorum queue with 3 was seen to take 32.
        arguments: dict[str, str | int] = {"x-queue-type": "quorum", "x-delivery-limit": _NO_LIMIT}
        if self.maxsize:
            arguments = {
                "x-queue-type": "classic",
                "x-max-length": self.maxsize,
                "x-overflow": "reject-publish",
            }
        dead = {"x-queue-type": "quorum", "x-delivery-limit": _NO_LIMIT}
        try:
            Queue(DEAD, durable=True, queue_arguments=dead)(channel).declare()
            Queue(self.queue, durable=True, queue_arguments=arguments)(channel).declare()
        except PreconditionFailed as error:
            raise TopologyMismatch(
                f"The queue {self.name!r} is there with another maxsize: use that one, or delete"
                f" {self.queue} first. The broker says: {error.reply_text}."
            ) from error


def done_queue(process: str) -> str:
    """Return the name of the queue that tells ``process`` what is done."""
    return _DONE + process


def is_done_queue(name: str) -> bool:
    """Whether ``name`` is that of such a queue."""
    return name.startswith(_DONE)


def declare_done(channel: Any, name: str) -> None:
    """Declare such a queue. It outlives a lost connection, so that nothing is missed meanwhile."""
    arguments = {"x-queue-type": "classic", "x-expires": _DONE_EXPIRES}
    Queue(name, durable=True, queue_arguments=arguments)(channel).declare()
