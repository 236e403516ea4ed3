"""Plain Celery: ``python -m benchmarks.peers.celery_peer`` publishes, ``celery -A`` with this module eats.

The queue is a quorum queue by ``task_default_queue_type`` (Celery's guide "Using RabbitMQ", Quorum Queues).
Late acknowledgement is on, because without it a killed worker loses its messages.
"""

import time
from typing import Any

from celery import Celery

from benchmarks.bench import Bench
from benchmarks.publishing import item, parser, publish
from benchmarks.tally import eaten

bench = Bench.here()
app = Celery("peer", broker=bench.url, set_as_current=False)
app.conf.update(
    task_default_queue="peer",
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",
    worker_detect_quorum_queues=True,
    task_ignore_result=True,
    task_acks_late=True,
    broker_transport_options={"confirm_publish": bench.confirm},
    broker_connection_retry_on_startup=True,
)


@app.task(name="eat")
def eat(baozi: dict[str, Any]) -> None:
    """Sleep as long as the measurement says, and count one baozi in the tally. Nothing else is stored."""
    wait = time.time() - baozi["made_at"]
    if bench.task_seconds:
        time.sleep(bench.task_seconds)
    eaten(1, wait)


if __name__ == "__main__":
    publish(parser().parse_args(), lambda number: eat.delay(item(number)))
