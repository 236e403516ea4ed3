"""How large the batches of a real worker are, by default: by what the function takes."""

import signal
from collections import Counter

from sqlalchemy import select

from baozi.ledger_schema import done
from tests.integration.place import Place
from tests.integration.shops import QUEUE, Shop
from tests.waiting import wait_until

FAST, SLOW = 400, 40


def send(shop: Shop, numbers: range, seconds: float) -> None:
    with shop.client() as client, client.connection_for_write() as connection:
        producer = connection.Producer()
        for number in numbers:
            client.send_task(
                "shop.pick", (number, seconds), producer=producer, exchange=QUEUE, routing_key=QUEUE
            )


def picked(shop: Shop) -> dict[int, list[str]]:
    """The processes that picked each number."""
    found: dict[int, list[str]] = {}
    for line in shop.runs.read_text().splitlines():
        _, process, number = line.split()
        found.setdefault(int(number), []).append(process)
    return found


def sizes(shop: Shop) -> list[int]:
    """How many messages were recorded together, in the sequence in which they were."""
    with shop.engine.connect() as connection:
        recorded = connection.execute(select(done.c.done_at).where(done.c.task == "shop.pick")).scalars()
        return [count for _, count in sorted(Counter(recorded).items())]


def test_fast_messages_are_batched_and_slow_ones_are_shared_one_by_one(place: Place) -> None:
    shop = Shop(place)
    send(shop, range(FAST), 0)
    first = shop.worker("first", processes=2)
    wait_until(lambda: sum(sizes(shop)) == FAST, "the fast ones to be recorded", timeout=60)
    wait_until(lambda: shop.waiting() == 0, "the queue to be empty")
    assert max(sizes(shop)) > 10
    # The first worker has learned that messages are fast, and prefetches many.
    second = shop.worker("second", processes=2)
    slow = range(FAST, FAST + SLOW)
    send(shop, slow, 0.3)
    wait_until(lambda: sum(sizes(shop)) == FAST + SLOW, "the slow ones to be recorded", timeout=60)
    shares = Counter(process for number in slow for process in picked(shop)[number])
    assert len(shares) == 4, "each process of both workers gets some"
    assert min(shares.values()) >= SLOW // 4 // 3
    assert sizes(shop)[-SLOW:] == [1] * SLOW
    for worker in (first, second):
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=30) == 0
    assert max(Counter(map(len, picked(shop).values()))) == 1, "each is picked once"
    assert shop.waiting() == shop.waiting("shop.dead") == 0
