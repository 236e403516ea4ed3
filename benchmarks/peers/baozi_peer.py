"""Baozi's confirmed publisher.

With ``alone``, or at a fixed rate, each baozi is confirmed before the next one is put. With ``ahead``, a
hundred messages are put together, ahead of their confirms. ``--tray`` is the number of baozi in a message.
"""

import argparse
import time
from collections.abc import Callable

from baozi.model import Baozi, Closing, Tray
from baozi.settings import settings
from benchmarks.publishing import item, parser, publish
from producers.publisher import Publisher

#: Messages that are passed to the publisher together, as ``baozi produce`` does.
_AT_ONCE = 100


class Ahead:
    """Puts messages in groups of a hundred."""

    def __init__(self, publisher: Publisher, tray: int) -> None:
        """Use ``publisher``, with ``tray`` baozi in each message."""
        self._publisher = publisher
        self._tray = tray
        self._made: list[Baozi] = []
        self._trays: list[Tray] = []

    def put(self, number: int) -> None:
        """Add the message of this number to the group. A full group is sent."""
        if self._tray == 1:
            self._made.append(Baozi(**item(number)))
        else:
            numbers = list(range(number * self._tray, (number + 1) * self._tray))
            self._trays.append(Tray(run="bench", producer="alex", numbers=numbers, made_at=time.time()))
        if len(self._made) + len(self._trays) == _AT_ONCE:
            self._send()

    def _send(self) -> None:
        made, self._made = self._made, []
        trays, self._trays = self._trays, []
        self._publisher.put_ahead(made)
        self._publisher.put_ahead(trays)

    def settle(self) -> None:
        """Send the rest, and wait until all messages are confirmed."""
        self._send()
        self._publisher.flush()


def main() -> None:
    """Publish, and wait for the confirms."""
    options = parser()
    options.add_argument("how", choices=("alone", "ahead"))
    chosen = options.parse_args()
    with Publisher("bench", settings()) as publisher:

        def close_order(messages: int) -> None:
            count = messages * chosen.tray
            order = Closing(
                run="bench", producer="alex", accepted=count, attempted=count, closed_at=time.time()
            )
            publisher.put(order)

        _publish(chosen, publisher, close_order)


def _publish(chosen: argparse.Namespace, publisher: Publisher, close_order: Callable[[int], None]) -> None:
    if chosen.how == "alone" or chosen.rate:
        publish(chosen, lambda number: publisher.put(Baozi(**item(number))), finish=close_order)
    else:
        ahead = Ahead(publisher, chosen.tray)
        publish(chosen, ahead.put, ahead.settle, finish=close_order)


if __name__ == "__main__":
    main()
