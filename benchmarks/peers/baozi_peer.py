"""Ours: the confirmed publisher that ``baozi produce`` uses, on the virtual host of the bench."""

import time

from baozi.model import Baozi, Order
from baozi.settings import settings
from benchmarks.publishing import item, parser, publish
from producers.publisher import Publisher


def main() -> None:
    """Publish; settled when each is confirmed."""
    chosen = parser().parse_args()
    with Publisher("bench", settings()) as publisher:

        def close_order(messages: int) -> None:
            publisher.close_order(
                Order(
                    run="bench",
                    producer="alex",
                    accepted=messages,
                    attempted=messages,
                    closed_at=time.time(),
                )
            )

        publish(chosen, lambda number: publisher.put(Baozi(**item(number))), finish=close_order)


if __name__ == "__main__":
    main()
