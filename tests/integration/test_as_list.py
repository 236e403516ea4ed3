"""A function that takes the whole list of a batch: each message has its own outcome, and its effect once."""

import json
from collections import Counter

import pytest
from sqlalchemy import select

from baozi.ledger_schema import done
from tests.integration.place import Place
from tests.integration.shops import Shop
from tests.waiting import wait_until

pytest_plugins = ["tests.integration.postgresql"]

#: The number of the order that cannot be booked, of one that must be retried, and of one that a task follows.
BAD, RETRIED, FOLLOWED = 3, 5, 7
COUNT = 16
AMOUNTS = {number: {BAD: 13, RETRIED: 15}.get(number, 100 + number) for number in range(COUNT)}


def send(shop: Shop, number: int, **options: object) -> str:
    return shop.send("shop.book", {"id": f"o-{number}", "amount": AMOUNTS[number]}, **options)


def results(shop: Shop) -> dict[str, object]:
    """What the ledger has as the result of each order."""
    with shop.engine.connect() as connection:
        found = connection.execute(select(done.c.key, done.c.result).where(done.c.task == "shop.book"))
        return {row.key: json.loads(row.result) for row in found}


@pytest.mark.parametrize(("pool", "batch"), [("prefork", 10), ("threads", 10), ("solo", 10), ("prefork", 1)])
def test_each_message_has_its_own_outcome_and_its_effect_once(
    private_place: Place, pool: str, batch: int
) -> None:
    shop = Shop(private_place)
    heard = private_place.home / "heard"
    with shop.client() as client:
        link = client.signature("shop.total", exchange="shop", routing_key="shop")
    ids = [send(shop, number, **({"link": link} if number == FOLLOWED else {})) for number in AMOUNTS]
    ids += [send(shop, number) for number in (1, 14)]  # the same keys again
    shop.worker(pool=pool, shop_batch=batch, shop_heard=heard)
    wait_until(lambda: len(shop.booked()) == COUNT - 1, "all but one to be booked", timeout=60)
    wait_until(lambda: shop.waiting("shop.dead") == 1, "the bad one to be dead-lettered")
    wait_until(lambda: shop.ran()["total 107"] == 1, "what follows to have run")
    wait_until(lambda: shop.waiting() == 0, "the queue to be empty")
    good = {f"o-{number}": amount for number, amount in AMOUNTS.items() if number != BAD}
    assert shop.booked() == good
    assert shop.attempts() == len(good), "nothing stays of a list that failed"
    assert results(shop) == {key: {"booked": amount} for key, amount in good.items()}
    assert [letter["reason"] for letter in shop.dead()] == ["ValueError: 13 is no amount"]
    runs = shop.ran()
    assert runs[f"book o-{BAD}"] == 1
    assert runs[f"book o-{RETRIED}"] == 3
    sizes = [line.count(",") + 1 for line in runs if line.startswith("book ")]
    assert (max(sizes) > 1) is (batch > 1)
    succeeded = {id_ for number, id_ in enumerate(ids) if number != BAD}
    wait_until(
        lambda: len(set(heard.read_text().split()) & succeeded) == len(succeeded), "each signal to be heard"
    )
    told = Counter(id_ for id_ in heard.read_text().split() if id_ in ids)
    assert told == dict.fromkeys(succeeded, 1)


@pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize(
    "point", ["in the function, after some SQL", "before the commit", "after the commit"]
)
def test_a_process_that_is_killed_with_a_list_books_each_payment_once(
    private_place: Place, ledger_url: str, point: str
) -> None:
    shop = Shop(private_place, ledger_url)
    numbers = [number for number in AMOUNTS if number not in {BAD, RETRIED}]
    for number in numbers:
        send(shop, number)
    died = private_place.home / "died"
    shop.worker(before=["tests.integration.dying", point, str(died), "--"], shop_batch=10)
    wait_until(died.exists, f"a process to be killed {point}")
    wait_until(lambda: len(shop.booked()) == len(numbers), "all to be booked", timeout=60)
    wait_until(lambda: shop.waiting() == 0, "the queue to be empty")
    assert shop.attempts() == len(numbers)
    assert shop.waiting("shop.dead") == 0
    assert max(line.count(",") for line in shop.ran()) > 0, "the one that was killed had a list"
