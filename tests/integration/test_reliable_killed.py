"""Wherever a process of a worker is killed, the SQL of a task takes effect once."""

import pytest

from tests.integration.dying import POINTS
from tests.integration.place import Place
from tests.integration.shops import Shop
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
pytest_plugins = ["tests.integration.postgresql"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    ("ledger_url", "batch"), [("sqlite", 10), ("postgresql", 1)], indirect=["ledger_url"]
)
def test_a_worker_that_is_killed_at_any_point_books_each_payment_once(
    private_place: Place, ledger_url: str, point: str, batch: int
) -> None:
    shop = Shop(private_place, ledger_url)
    for number in range(15):
        shop.send("shop.charge", {"id": f"o-{number}", "amount": 1})
    died = private_place.home / "died"
    worker = shop.worker(before=["tests.integration.dying", point, str(died), "--"], shop_batch=batch)
    wait_until(died.exists, f"a process to be killed {point}")

    def none_waits_or_no_worker() -> bool:
        return len(shop.booked()) == 15 or worker.process.poll() is not None

    wait_until(none_waits_or_no_worker, "the rest to be booked, or the worker to be gone", timeout=60)
    if worker.process.poll() is not None:
        wait_until(lambda: shop.consumers() == 0, "the broker to notice that the worker is gone", timeout=60)
        shop.worker("another", shop_batch=batch)
    wait_until(lambda: len(shop.booked()) == 15, "all to be booked", timeout=60)
    wait_until(lambda: shop.waiting() == 0, "the queue to be empty")
    assert shop.attempts() == 15
    assert shop.waiting("shop.dead") == 0
