"""The queues of ``remote_mp`` on the broker. No other module of the package declares any.

========================== =================================================================================
``remote_mp.q.NAME``       the items of the queue NAME
``remote_mp.done.ID``      done notices: which of the items that process ID put are finished
``remote_mp.dead``         messages that were in a queue and are not items
========================== =================================================================================
"""

from dataclasses import dataclass
from typing import Any

from amqp.exceptions import PreconditionFailed
from kombu import Queue

from baozi.errors import TopologyMismatch

DEAD = "remote_mp.dead"

_DONE = "remote_mp.done."
#: Milliseconds without a consumer after which the broker deletes the queue of a process's done notices: the
#: process was killed, or could not reach the broker for so long.
_DONE_EXPIRES = 3_600_000
#: By default RabbitMQ 4 drops a message that was returned 20 times (guide "Quorum Queues", Poison Message
#: Handling), and a consumer that ends returns all that it had prefetched. No message reaches this limit.
_NO_LIMIT = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ItemQueue:
    """A queue of items: its name and its bound, which must be the same for all processes that use it."""

    name: str
    maxsize: int
    """How many items it holds; 0 for no limit."""

    @property
    def broker_name(self) -> str:
        """Its name on the broker."""
        return f"remote_mp.q.{self.name}"

    def declare(self, channel: Any) -> None:
        """Declare it and the queue of dead letters.

        Raises:
            TopologyMismatch: it exists with another ``maxsize``.
        """
        # x-max-length is exact only for a classic queue. A quorum queue with a limit of 3 took up to 32.
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
            Queue(self.broker_name, durable=True, queue_arguments=arguments)(channel).declare()
        except PreconditionFailed as error:
            raise TopologyMismatch(
                f"The queue {self.name!r} exists with another maxsize. Use that maxsize, or delete"
                f" {self.broker_name} first. The broker says: {error.reply_text}."
            ) from error


def done_queue(process: str) -> str:
    """Return the name of the queue of done notices for the process with this id."""
    return _DONE + process


def is_done_queue(name: str) -> bool:
    """Return whether ``name`` is the name of a queue of done notices."""
    return name.startswith(_DONE)


def declare_done_queue(channel: Any, name: str) -> None:
    """Declare a queue of done notices. It outlives a lost connection, so that no notice is lost."""
    arguments = {"x-queue-type": "classic", "x-expires": _DONE_EXPIRES}
    Queue(name, durable=True, queue_arguments=arguments)(channel).declare()
