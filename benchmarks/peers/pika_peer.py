"""pika with a ``BlockingConnection``, as in its documentation: ``publish`` or ``eat``."""

import json
import sys
import time

import pika

from benchmarks.bench import Bench
from benchmarks.publishing import item, parser, publish
from benchmarks.tally import eaten

#: pika's documentation has 1. A consumer that needs speed uses more.
_PREFETCH = 100
_PERSISTENT = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)


def main() -> None:
    """Publish or eat, by the first argument."""
    bench = Bench.here()
    connection = pika.BlockingConnection(pika.URLParameters(bench.url))
    channel = connection.channel()
    channel.queue_declare("peer", durable=True, arguments={"x-queue-type": "quorum"})
    if sys.argv[1] == "publish":
        if bench.confirm:
            channel.confirm_delivery()
        publish(
            parser().parse_args(sys.argv[2:]),
            lambda number: channel.basic_publish("", "peer", json.dumps(item(number)).encode(), _PERSISTENT),
            lambda: connection.process_data_events(0),
        )
        connection.close()
    else:
        channel.basic_qos(prefetch_count=_PREFETCH)
        for method, _, body in channel.consume("peer"):
            eaten(1, time.time() - json.loads(body)["made_at"])
            channel.basic_ack(method.delivery_tag)


if __name__ == "__main__":
    main()
