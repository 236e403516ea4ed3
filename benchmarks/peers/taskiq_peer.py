"""taskiq with taskiq-aio-pika: this module publishes, ``taskiq worker`` with it eats.

By default, aio-pika's channels use publisher confirms, and taskiq-aio-pika's queues are quorum queues.
"""

import asyncio
import time
from typing import Any

from taskiq_aio_pika import AioPikaBroker, Queue

from benchmarks.bench import Bench
from benchmarks.publishing import item, parser, publish
from benchmarks.tally import eaten

broker = AioPikaBroker(Bench.here().url, task_queues=[Queue(name="peer")])


@broker.task(task_name="eat")  # its default is the path of the file, which another process sees otherwise
async def eat(baozi: dict[str, Any]) -> None:
    """Count one baozi in the tally. Nothing else is stored."""
    eaten(1, time.time() - baozi["made_at"])


def main() -> None:
    """Publish with an event loop of its own."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())
    publish(parser().parse_args(), lambda number: loop.run_until_complete(eat.kiq(item(number))))
    loop.run_until_complete(broker.shutdown())
    loop.close()


if __name__ == "__main__":
    main()
