import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from baozi import audit as audit_module
from baozi.audit import Audit, settled_audit
from baozi.errors import NothingToAudit
from baozi.ledger import Ledger
from tests.integration.ledgers import RUN, close, eat, only

pytest_plugins = ["tests.integration.postgresql"]


class Broker:
    """What is dead, and how often that was asked."""

    def __init__(self, dead: Mapping[str, int] | None = None) -> None:
        self.dead = dead
        self.asked = 0

    def __call__(self) -> Mapping[str, int] | None:
        self.asked += 1
        return self.dead


@pytest.fixture
def later(sqlite_url: str) -> Iterator[Callable[[Callable[[Ledger], None]], None]]:
    """Runs something on the ledger in a thread, when an audit has looked at it in vain."""
    looked = threading.Event()
    threads: list[threading.Thread] = []

    def begin(do: Callable[[Ledger], None]) -> None:
        def work() -> None:
            assert looked.wait(30), "nobody looked"
            ledger = Ledger(sqlite_url).open()
            do(ledger)
            ledger.close()

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    real = audit_module.audit

    def seen(*arguments: Any) -> Audit:
        try:
            return real(*arguments)
        finally:
            looked.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_module, "audit", seen)
        yield begin
        looked.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def test_a_settled_run_is_audited_at_once(ledger: Ledger) -> None:
    close(ledger, 2)
    eat(ledger, 0, 1)
    broker = Broker({})
    began = time.monotonic()
    assert settled_audit(ledger, RUN, broker, wait=60).proven
    assert time.monotonic() - began < 5
    assert broker.asked == 1


def test_an_audit_returns_as_soon_as_the_last_is_eaten(
    sqlite_ledger: Ledger, later: Callable[[Callable[[Ledger], None]], None]
) -> None:
    close(sqlite_ledger, 2)
    eat(sqlite_ledger, 0)
    later(lambda ledger: eat(ledger, 1))
    began = time.monotonic()
    assert settled_audit(sqlite_ledger, RUN, Broker({}), wait=60).proven
    assert time.monotonic() - began < 10


def test_an_audit_waits_for_an_order_to_be_closed(
    sqlite_ledger: Ledger, later: Callable[[Callable[[Ledger], None]], None]
) -> None:
    eat(sqlite_ledger, 0)
    later(lambda ledger: close(ledger, 1))
    sums = settled_audit(sqlite_ledger, RUN, Broker({}), wait=60)
    assert sums.proven
    assert sums.total.accepted == 1


def test_an_audit_waits_for_the_orders_that_are_due(
    sqlite_ledger: Ledger, later: Callable[[Callable[[Ledger], None]], None]
) -> None:
    close(sqlite_ledger, 0, producer="alex")
    later(lambda ledger: close(ledger, 0, producer="peiqi"))
    sums = settled_audit(sqlite_ledger, RUN, Broker({}), wait=60, orders_due=2)
    assert [one.producer for one in sums.producers] == ["alex", "peiqi"]


def test_an_audit_waits_for_a_ledger_that_no_worker_has_made_yet(
    sqlite_url: str, later: Callable[[Callable[[Ledger], None]], None]
) -> None:
    later(lambda ledger: close(ledger, 0))
    ledger = Ledger(sqlite_url)
    assert settled_audit(ledger, RUN, Broker({}), wait=60).proven
    ledger.close()


@pytest.mark.parametrize(
    ("eaten_numbers", "accepted", "orders_due"), [((0,), 2, 1), ((0,), None, 1), ((0, 1), 2, 2)]
)
def test_at_its_deadline_an_audit_returns_the_current_sums(
    eaten_numbers: tuple[int, ...], accepted: int | None, orders_due: int, ledger: Ledger
) -> None:
    eat(ledger, *eaten_numbers)
    if accepted is not None:
        close(ledger, accepted)
    began = time.monotonic()
    sums = settled_audit(ledger, RUN, Broker({}), wait=0.5, orders_due=orders_due)
    assert 0.5 <= time.monotonic() - began < 5
    assert (only(sums).eaten, only(sums).accepted, only(sums).dead) == (len(eaten_numbers), accepted, 0)


def test_an_audit_that_need_not_wait_asks_once(ledger: Ledger) -> None:
    close(ledger, 2)
    broker = Broker({"alex": 1})
    began = time.monotonic()
    sums = settled_audit(ledger, RUN, broker, wait=0)
    assert time.monotonic() - began < 5
    assert (sums.total.lost, sums.total.dead, broker.asked) == (2, 1, 1)


def test_an_unknown_run_is_waited_for_and_then_nothing_to_audit(ledger: Ledger) -> None:
    began = time.monotonic()
    with pytest.raises(NothingToAudit):
        settled_audit(ledger, RUN, Broker({}), wait=0.5)
    assert 0.5 <= time.monotonic() - began < 5


def test_an_audit_ends_early_when_all_that_is_lost_is_dead(ledger: Ledger) -> None:
    close(ledger, 3)
    eat(ledger, 0, 1)
    began = time.monotonic()
    sums = settled_audit(ledger, RUN, Broker({"alex": 1}), wait=60)
    assert time.monotonic() - began < 5
    assert (sums.total.lost, sums.total.dead, sums.proven) == (1, 1, False)


def test_an_audit_ends_early_although_a_dead_letter_is_not_among_the_lost(ledger: Ledger) -> None:
    # Number 0 was eaten, and delivered once more it ended in the dead letters.
    close(ledger, 3)
    eat(ledger, 0, 1)
    began = time.monotonic()
    sums = settled_audit(ledger, RUN, Broker({"alex": 2}), wait=60)
    assert time.monotonic() - began < 5
    assert (sums.total.lost, sums.total.dead, sums.proven) == (1, 2, False)


def test_an_audit_goes_on_while_more_is_lost_than_is_dead(
    sqlite_ledger: Ledger, later: Callable[[Callable[[Ledger], None]], None]
) -> None:
    close(sqlite_ledger, 3)
    eat(sqlite_ledger, 0)
    later(lambda ledger: eat(ledger, 1))
    sums = settled_audit(sqlite_ledger, RUN, Broker({"alex": 1}), wait=60)
    assert (sums.total.eaten, sums.total.lost, sums.total.dead) == (2, 1, 1)


def test_another_producer_s_dead_letter_does_not_end_the_wait_for_what_is_still_to_be_eaten(
    sqlite_ledger: Ledger, later: Callable[[Callable[[Ledger], None]], None]
) -> None:
    # A baozi of peiqi's with an unknown fate is dead: it was not accepted, so it is not among the lost.
    close(sqlite_ledger, 1, producer="alex")
    close(sqlite_ledger, 0, 1, producer="peiqi")
    later(lambda ledger: eat(ledger, 0, producer="alex"))
    sums = settled_audit(sqlite_ledger, RUN, Broker({"peiqi": 1}), wait=60, orders_due=2)
    assert (sums.total.eaten, sums.total.lost, sums.proven) == (1, 0, True)


def test_a_dead_letter_of_an_unknown_producer_does_not_keep_the_audit_waiting(
    ledger: Ledger,
) -> None:
    # Another client's, which closes no order: nothing that is still to come would change it.
    close(ledger, 1)
    eat(ledger, 0)
    sums = settled_audit(ledger, RUN, Broker({"stranger": 1}), wait=100_000)
    assert (sums.total.eaten, sums.total.dead, sums.open_orders) == (1, 1, ["stranger"])
    assert not sums.proven
