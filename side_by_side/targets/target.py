"""What the chaos environment and its faults need of a broker."""

from random import Random
from typing import Protocol

from baozi.faults.proxy import Address


class BrokerTarget(Protocol):
    """A broker that nothing else uses."""

    @property
    def nodes(self) -> int:
        """How many nodes it has."""

    @property
    def version(self) -> str | None:
        """Its version of RabbitMQ; None if it is unknown."""

    def address(self, node: int, /) -> Address:
        """Return where ``node`` (from 0) listens now."""

    @property
    def login(self) -> str:
        """``user:password`` of its only user, an administrator."""

    @property
    def path(self) -> str:
        """The virtual host, as the path of a URL."""

    def kill(self, chance: Random, /) -> None:
        """``kill -9`` it, or one of its nodes."""

    def revive(self) -> None:
        """Start what was killed again. Returns when it answers.

        Raises:
            BrokerAway: it does not answer.
        """

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on its first node, and return what it prints.

        Raises:
            BrokerError: it failed.
        """


class ClusterTarget(BrokerTarget, Protocol):
    """Several nodes. The queue has a member on each."""

    def leader(self) -> int:
        """Return the node of the queue's leader."""

    def kill_node(self, node: int) -> None:
        """``kill -9`` one node."""

    def cut_off(self, node: int) -> None:
        """Cut one node off from the others, but not from its clients."""

    def join(self, node: int) -> None:
        """End the cut. Returns when the node's member of the queue is in the majority again."""

    def restart(self, node: int) -> None:
        """Stop one node cleanly, and start it again."""
