"""Where a Manager listens, and its errors in one sentence: for the commands and the comparison."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from typing import Any

from baozi.errors import BrokerError
from local_mp import manager_queue


class ManagerAway(BrokerError):
    """The Manager does not answer any more. Check that it runs (`manager-queue serve`)."""


@dataclass(frozen=True)
class ManagerAddress:
    """A Manager's address, and the authkey that it and its clients share."""

    host: str
    port: int
    authkey: bytes = field(repr=False)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield the Manager's queue.

        Raises:
            ManagerAway: no Manager answers, it has another authkey, or it ended in the meantime.
        """
        try:
            queue = manager_queue.connect((self.host, self.port), self.authkey)
        except AuthenticationError:
            raise ManagerAway(
                "The Manager has another authkey. Give all processes the same authkey."
            ) from None
        except OSError as error:
            raise ManagerAway(
                "No Manager answers at {host}:{port}: {strerror}.",
                host=self.host,
                port=self.port,
                strerror=error.strerror,
            ) from error
        try:
            yield queue
        except (ConnectionError, EOFError) as error:
            raise ManagerAway from error

    def serve(self, capacity: int | None, ready: Callable[[int], object]) -> None:
        """Hold a queue of ``capacity`` items (None: no bound) until Ctrl-C; call ``ready`` with the port.

        Raises:
            ManagerAway: the address cannot be listened at.
        """
        try:
            manager_queue.serve(
                (self.host, self.port), self.authkey, capacity or 0, lambda address: ready(address[1])
            )
        except OSError as error:
            raise ManagerAway(
                "Cannot listen at {host}:{port}: {strerror}.",
                host=self.host,
                port=self.port,
                strerror=error.strerror,
            ) from error
