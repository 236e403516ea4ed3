"""Ours: the confirmed publisher that ``baozi produce`` uses, on the virtual host of the bench.

Given ``alone``, each baozi is confirmed before the next is put, as it is at a fixed rate; else they are put
ahead of their confirms, a hundred messages at once; and with ``--tray``, so many baozi travel in a message.
"""

import argparse
import time
from collections.abc import Callable

from baozi.model import Baozi, Closing, Tray
from baozi.settings import settings
from benchmarks.publishing import item, parser, publish
from producers.publisher import Publisher

#: Messages that are handed over at once, as ``baozi produce`` does.
_AT_ONCE = 100


class Ahead:
    """Puts messages a hundred at once."""

    def __init__(self, publisher: Publisher, tray: int) -> None:
        """Put through ``publisher``, with so many baozi in a message."""
        self._publisher = publisher
        self._tray = tray
        self._made: list[Baozi] = []
        self._trays: list[Tray] = []

    def put(self, number: int) -> None:
        """Put the message of this number, soon."""
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
        """Return when all is confirmed."""
        self._send()
        self._publisher.flush()


def main() -> None:
    """Publish; settled when each is confirmed."""
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
