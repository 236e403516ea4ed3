"""dramatiq: ``python -m benchmarks.peers.dramatiq_peer`` publishes; ``dramatiq`` with this module eats.

Its queue is of the virtual host's default type, which the bench makes a quorum queue.
"""

import time
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.bench import Bench
from benchmarks.publishing import item, parser, publish
from benchmarks.tally import eaten

bench = Bench.here()
broker = RabbitmqBroker(url=bench.url, confirm_delivery=bench.confirm)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="peer")
def eat(baozi: dict[str, Any]) -> None:
    """Eat one, and write nothing down."""
    eaten(1, time.time() - baozi["made_at"])


if __name__ == "__main__":
    publish(parser().parse_args(), lambda number: eat.send(item(number)), broker.close)
