"""Somebody's own Celery app with ``Reliable``: each key has one effect, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from tests.integration.place import Place, kill, pool_children
from tests.integration.shops import Shop
from tests.waiting import wait_until

POOLS = ["prefork", "threads", "solo"]


@pytest.fixture
def shop(private_place: Place) -> Shop:
    return Shop(private_place)


def order(number: int, amount: int = 1) -> dict[str, object]:
    return {"id": f"o-{number}", "amount": amount}


def all_booked(shop: Shop, count: int) -> None:
    wait_until(lambda: len(shop.booked()) == count, f"{count} payments to be booked", timeout=60)


def ran_more_than(shop: Shop, before: int) -> bool:
    return shop.ran().total() > before


def all_ran(shop: Shop, expected: dict[str, int]) -> None:
    wait_until(lambda: shop.ran() == expected, f"{expected} to have run", timeout=60)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("batch", [1, 10])
def test_each_message_has_its_effect_once(shop: Shop, pool: str, batch: int) -> None:
    for number in range(20):
        shop.send("shop.charge", order(number, number + 100))
    shop.worker(pool=pool, shop_batch=batch)
    all_booked(shop, 20)
    wait_until(lambda: shop.waiting() == 0, "the queue to be empty")
    assert shop.booked() == {f"o-{number}": number + 100 for number in range(20)}
    assert shop.ran() == {f"charge o-{number}": 1 for number in range(20)}


@pytest.mark.parametrize("batch", [1, 10])
def test_one_key_sent_by_many_clients_has_one_effect(shop: Shop, batch: int) -> None:
    for _ in range(5):
        for number in range(3):
            shop.send("shop.charge", order(number))
    shop.worker(processes=2, shop_batch=batch)
    all_booked(shop, 3)
    shop.send("shop.charge", order(2, 99))
    shop.send("shop.mail", "last")
    wait_until(lambda: any(it.startswith("mail") for it in shop.ran()), "the last to have run")
    wait_until(lambda: shop.waiting() == 0, "the queue to be empty")
    assert shop.booked() == {"o-0": 1, "o-1": 1, "o-2": 1}
    assert shop.attempts() == 3


def test_a_task_id_that_is_sent_twice_runs_once_and_is_the_key(shop: Shop) -> None:
    shop.worker()
    for _ in range(3):
        shop.send("shop.mail", "you", task_id="mail-7")
        wait_until(lambda: shop.waiting() == 0, "it to be consumed")
    shop.send("shop.mail", "me", task_id="mail-8")
    all_ran(shop, {"mail you mail-7": 1, "mail me mail-8": 1})


@pytest.mark.parametrize("batch", [1, 10])
def test_a_function_that_fails_leaves_nothing_behind_and_is_dead_lettered_alone(
    shop: Shop, batch: int
) -> None:
    for number in range(6):
        shop.send("shop.charge", order(number, 13 if number == 3 else 5))
    shop.worker(shop_batch=batch)
    all_booked(shop, 5)
    wait_until(lambda: shop.waiting("shop.dead") == 1, "the bad one to be dead-lettered")
    assert shop.attempts() == 5
    letter = shop.only_dead()
    assert letter["reason"] == "ValueError: 13 is no amount"
    assert "raise ValueError" in letter["traceback"]


def test_messages_that_never_end_do_not_harm_the_rest_of_their_batch(shop: Shop) -> None:
    for number in range(6):
        shop.send("shop.charge", order(number, 14 if number in {2, 3} else 5))
    shop.worker(shop_batch=10, baozi_eat_time_limit=3)
    wait_until(lambda: shop.waiting("shop.dead") == 2, "the two to be dead-lettered", timeout=60)
    all_booked(shop, 4)
    assert {letter["reason"] for letter in shop.dead()} == {"SoftTimeLimitExceeded: SoftTimeLimitExceeded()"}
    # The first of them ended the batch, before the hard limit could kill it: what ran before was recorded.
    runs = {0: 1, 1: 1, 2: 2, 3: 1, 4: 1, 5: 1}
    assert shop.ran() == {f"charge o-{number}": times for number, times in runs.items()}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (({"id": "o-1"},), "shop.charge: bought.amount is missing"),
        (({"id": "o-1", "amount": "many"},), "shop.charge: bought.amount should be a valid integer"),
        ((), "shop.charge: bought is missing"),
        ((order(1), 2), "shop.charge: 1 is an argument too many"),
        (({"id": "", "amount": 1},), "shop.charge: its key has 0 characters"),
        (({"id": "k" * 10_000, "amount": 1},), "shop.charge: its key has 10000 characters"),
        (({"id": "a\nb", "amount": 1},), "shop.charge: its key has 3 characters or is not printable"),
    ],
)
def test_arguments_that_do_not_fit_are_dead_lettered_with_the_field(
    shop: Shop, arguments: tuple[object, ...], reason: str
) -> None:
    shop.send("shop.charge", *arguments)
    shop.worker()
    wait_until(lambda: shop.waiting("shop.dead") == 1, "it to be dead-lettered")
    letter = shop.only_dead()
    assert reason in letter["reason"]
    assert not shop.ran()


def test_a_retry_waits_with_the_broker_and_the_last_failure_is_dead_lettered(shop: Shop) -> None:
    shop.worker()
    shop.send("shop.ship", "near", 3)
    shop.send("shop.ship", "far", 99)
    wait_until(lambda: shop.waiting("shop.dead") == 1, "the unreachable to be dead-lettered", timeout=60)
    wait_until(lambda: shop.ran()["ship near"] == 3, "the other to be shipped", timeout=60)
    assert shop.ran() == {"ship near": 3, "ship far": 3}
    letter = shop.only_dead()
    assert letter["reason"] == "TimeoutError: the carrier does not answer"
    assert "raise TimeoutError" in letter["traceback"]


def test_a_function_can_dead_letter_at_once(shop: Shop) -> None:
    shop.worker()
    shop.send("shop.refuse", "no such customer")
    wait_until(lambda: shop.waiting("shop.dead") == 1, "it to be dead-lettered")
    letter = shop.only_dead()
    assert letter["reason"] == "no such customer"
    assert shop.ran() == {"refuse no such customer": 1}


def test_a_follower_receives_the_result_once_also_after_a_redelivery(shop: Shop) -> None:
    shop.worker()
    with shop.client() as client:
        link = client.signature("shop.total", exchange="shop", routing_key="shop")
        for _ in range(2):
            shop.send("shop.charge", order(1, 7), task_id="one", link=link)
            wait_until(lambda: shop.waiting() == 0, "it to be consumed")
    shop.send("shop.mail", "you", task_id="last")
    all_ran(shop, {"charge o-1": 1, "total 7": 1, "mail you last": 1})


@pytest.mark.parametrize("batch", [1, 10])
def test_a_killed_pool_process_books_nothing_twice(shop: Shop, batch: int) -> None:
    for number in range(30):
        shop.send("shop.charge", order(number))
    worker = shop.worker(shop_batch=batch, shop_seconds=0.02)
    for _ in range(3):
        before = shop.ran().total()
        wait_until(partial(ran_more_than, shop, before), "one to run")
        for child in pool_children(worker):
            kill(child)
    all_booked(shop, 30)
    wait_until(lambda: shop.waiting() == 0, "the queue to be empty")
    assert shop.attempts() == 30
    assert shop.waiting("shop.dead") == 0


IMPORT = """
import sys
from tests.integration.shop import charge, reliable, total
count, resume = int(sys.argv[1]), sys.argv[2] == "resume"
with reliable.order("import-7", run="november", resume=resume) as order:
    for number in range(count):
        bought = charge.s({"id": f"o-{number}", "amount": number + 100})
        order.put(bought.set(link=total.s()) if number == 0 else bought)
"""


def importing(shop: Shop, count: int, how: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **shop.environment(baozi_home=shop.place.home, baozi_window=20)}
    return subprocess.Popen([sys.executable, "-c", IMPORT, str(count), how], env=environment, text=True)


def test_an_order_of_any_task_is_numbered_closed_and_audited_also_when_it_is_killed(shop: Shop) -> None:
    shop.worker(shop_batch=10)
    killed = importing(shop, 3_000, "begin")
    wait_until(lambda: len(shop.booked()) > 20, "some to be booked")
    killed.kill()
    assert killed.wait(30) == -signal.SIGKILL
    # What it was about to tell is not lost with it.
    assert importing(shop, 3_000, "resume").wait(60) == 0
    all_booked(shop, 3_000)
    wait_until(lambda: shop.waiting() == 0, "the queue to be empty")
    done = shop.place.run(
        "audit", "november", "--wait", "30", "--json", queue="shop", ledger_url=shop.ledger_url
    )
    sums = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (sums["total"]["accepted"], sums["total"]["eaten"], sums["total"]["lost"]) == (3_000, 3_000, 0)
    assert shop.attempts() == 3_000
    assert shop.ran()["total 100"] == 1


def test_the_apps_own_tasks_stay_as_they_are(shop: Shop) -> None:
    shop.worker()
    with shop.client() as client:
        client.send_task("shop.plain", ["hello"])
        client.send_task("shop.nobody", ["lost as with Celery alone"])
    all_ran(shop, {"plain hello": 1})
    wait_until(lambda: shop.waiting("celery") == 0, "the unknown one to be dropped as Celery does")
    assert shop.waiting("shop.dead") == 0
