"""aio-pika as in its documentation: ``publish`` (each message confirmed, its default) or ``eat``."""

import asyncio
import json
import sys
import time

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractExchange, AbstractQueue

from benchmarks.bench import Bench
from benchmarks.publishing import item, parser, publish
from benchmarks.tally import eaten

_PREFETCH = 100


async def _queue(connection: AbstractConnection) -> tuple[AbstractExchange, AbstractQueue]:
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=_PREFETCH)
    queue = await channel.declare_queue("peer", durable=True, arguments={"x-queue-type": "quorum"})
    return channel.default_exchange, queue


def _publish() -> None:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(aio_pika.connect(Bench.here().url))
    exchange, _ = loop.run_until_complete(_queue(connection))

    def put(number: int) -> None:
        body = json.dumps(item(number)).encode()
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        loop.run_until_complete(exchange.publish(message, routing_key="peer"))

    publish(parser().parse_args(sys.argv[2:]), put)
    loop.run_until_complete(connection.close())
    loop.close()


async def _eat() -> None:
    connection = await aio_pika.connect(Bench.here().url)
    _, queue = await _queue(connection)
    async with queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                eaten(1, time.time() - json.loads(message.body)["made_at"])


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        _publish()
    else:
        asyncio.run(_eat())
