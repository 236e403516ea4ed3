"""dramatiq: ``python -m benchmarks.peers.dramatiq_peer`` publishes, ``dramatiq`` with this module eats.

Its queue has the default type of the virtual host, which is quorum here.
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
    """Count one baozi in the tally. Nothing else is stored."""
    eaten(1, time.time() - baozi["made_at"])


if __name__ == "__main__":
    publish(parser().parse_args(), lambda number: eat.send(item(number)), broker.close)
