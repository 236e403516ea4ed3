"""What a kitchen, and the faults in it, must know of a broker."""

from random import Random
from typing import Protocol

from side_by_side.faults.proxy import Address


class Target(Protocol):
    """A broker that nobody else uses."""

    @property
    def nodes(self) -> int:
        """How many nodes it has."""

    @property
    def version(self) -> str | None:
        """Its RabbitMQ's, where it is known."""

    def address(self, node: int, /) -> Address:
        """Where ``node`` (from 0) listens at this moment."""

    @property
    def login(self) -> str:
        """``user:password`` of its one user, who may do all."""

    @property
    def path(self) -> str:
        """The virtual host, as a URL's path."""

    def kill(self, chance: Random, /) -> None:
        """``kill -9`` it, or one of its nodes."""

    def revive(self) -> None:
        """Start again what was killed; return when it answers.

        Raises:
            BrokerAway: it does not answer.
        """

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on its first node; return what it says.

        Raises:
            BrokerError: it failed.
        """


class Cluster(Target, Protocol):
    """Several nodes; the queue has a member on each."""

    def leader(self) -> int:
        """The node where the queue's leader is."""

    def kill_node(self, node: int) -> None:
        """``kill -9`` one node."""

    def cut_off(self, node: int) -> None:
        """Cut one node off from the others, though not from its clients."""

    def join(self, node: int) -> None:
        """End that; return when the node's member of the queue is in the majority again."""

    def restart(self, node: int) -> None:
        """Stop one node in good order, and start it again."""
