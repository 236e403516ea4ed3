"""taskiq on aio-pika: this module publishes; ``taskiq worker`` of it eats.

Confirmed, for aio-pika's channels are unless told otherwise; quorum, for its queues are.
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
    """Eat one, and write nothing down."""
    eaten(1, time.time() - baozi["made_at"])


def main() -> None:
    """Publish."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())
    publish(parser().parse_args(), lambda number: loop.run_until_complete(eat.kiq(item(number))))
    loop.run_until_complete(broker.shutdown())
    loop.close()


if __name__ == "__main__":
    main()
