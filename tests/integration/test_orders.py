"""Orders in the ledger: which order a baozi is of, and whether an order is open."""

from itertools import permutations

import pytest
from sqlalchemy import delete, update

from baozi.audit import DeadLetters, audit
from baozi.errors import NameInUse
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten, order_sessions
from baozi.model import Closing, Opening
from tests.integration.ledgers import (
    RUN,
    baozi,
    close,
    only,
    record_eaten,
    record_eaten_many,
    record_redelivery,
)

pytest_plugins = ["tests.integration.postgresql"]

#: The ids of two orders.
X, Y = "a" * 32, "b" * 32


def eat(ledger: Ledger, order_id: str, *numbers: int, together: bool = False) -> None:
    if together:
        tray = [baozi(number) for number in numbers]
        record_eaten_many(ledger, tray, "小红", "here", 2.0, [order_id] * len(tray))
        return
    for number in numbers:
        record_eaten(ledger, baozi(number), "小红", "here", 2.0, order_id)


def opening(session: int, order_id: str = X) -> Opening:
    return Opening(run=RUN, producer="alex", order=order_id, session=session, opened_at=1.0)


def closing(session: int, attempted: int, *unknown: list[int], order_id: str = X) -> Closing:
    gaps = sum(last - first + 1 for first, last in unknown)
    return Closing(
        run=RUN,
        producer="alex",
        accepted=attempted - gaps,
        attempted=attempted,
        closed_at=3.0,
        order=order_id,
        session=session,
        unknown=list(unknown),
    )


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("first", "second"), [(X, Y), (X, ""), ("", X)])
def test_a_number_of_another_order_is_refused_and_that_is_recorded(
    ledger: Ledger, first: str, second: str, together: bool
) -> None:
    eat(ledger, first, 0, 1, 2)
    with pytest.raises(NameInUse, match=r"course/alex/1.* another order"):
        eat(ledger, second, *((1, 7) if together else (1,)), together=together)
    sums = audit(ledger, RUN)
    assert (only(sums).eaten, only(sums).duplicated, only(sums).refused) == (3, 0, 1)
    assert sums.shared_names == ["alex"]
    with pytest.raises(NameInUse):
        record_redelivery(ledger, baozi(1), second)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("order_id", [X, ""])
def test_a_number_that_its_own_order_puts_again_is_a_duplicate(
    ledger: Ledger, order_id: str, together: bool
) -> None:
    eat(ledger, order_id, 0, 1)
    eat(ledger, order_id, 1, 2, together=together)
    assert record_redelivery(ledger, baozi(2), order_id)
    sums = audit(ledger, RUN)
    assert (only(sums).eaten, only(sums).duplicated, only(sums).refused) == (3, 2, 0)


def test_what_a_worker_of_an_older_release_ate_counts_for_the_order(ledger: Ledger) -> None:
    eat(ledger, X, 0, 1)
    with ledger.reading() as connection:
        connection.execute(update(eaten).where(eaten.c.number == 0).values(order_id=None))
        connection.commit()
    eat(ledger, X, 0)
    ledger.record_order(closing(1, 2))
    sums = audit(ledger, RUN)
    assert (only(sums).eaten, only(sums).lost, only(sums).duplicated) == (2, 0, 1)
    assert sums.proven


def test_an_order_is_open_until_its_last_session_is_closed_in_whatever_sequence_the_messages_come(
    ledger: Ledger,
) -> None:
    told: list[Closing | Opening] = [closing(1, 2), opening(2), closing(2, 3), opening(3), closing(3, 3)]
    for messages in permutations(told, 4):
        with ledger.reading() as connection:
            connection.execute(delete(order_sessions))
            connection.commit()
        for message in messages:
            if isinstance(message, Opening):
                ledger.record_opening(message)
            else:
                ledger.record_order(message)
        opened = max(it.session for it in messages)
        closed = max((it for it in messages if isinstance(it, Closing)), key=lambda it: it.session)
        sums = only(audit(ledger, RUN))
        assert sums.accepted == (closed.accepted if closed.session >= opened else None), messages


def test_the_numbers_of_unknown_outcome_are_not_accepted(ledger: Ledger) -> None:
    ledger.record_order(closing(1, 300, [0, 0]))
    eat(ledger, X, *range(1, 300), together=True)
    sums = audit(ledger, RUN)
    assert (only(sums).accepted, only(sums).lost, only(sums).recovered) == (299, 0, 0)
    assert sums.proven
    eat(ledger, X, 0)
    assert only(audit(ledger, RUN)).recovered == 1


@pytest.mark.parametrize(
    ("unknown", "there", "lost", "recovered", "unexpected", "missing"),
    [
        ([[0, 0], [4, 5]], {1, 2, 3, 6, 7, 8, 9}, 0, 0, 0, []),
        ([[0, 0], [4, 5]], {0, 2, 3, 5, 7, 8, 9}, 2, 2, 0, [(1, 1), (6, 6)]),
        ([[2, 9]], {0, 9, 11}, 1, 1, 1, [(1, 1)]),
        ([[0, 9]], {3, 10}, 0, 1, 1, []),
        ([[9, 9]], set(), 9, 0, 0, [(0, 8)]),
    ],
)
def test_each_sum_is_exact_whatever_is_unknown(
    ledger: Ledger,
    unknown: list[list[int]],
    there: set[int],
    lost: int,
    recovered: int,
    unexpected: int,
    missing: list[tuple[int, int]],
) -> None:
    ledger.record_order(closing(1, 10, *unknown))
    eat(ledger, X, *there)
    sums = only(audit(ledger, RUN))
    assert (sums.lost, sums.recovered, sums.unexpected) == (lost, recovered, unexpected)
    assert sums.missing == missing


def test_an_order_that_is_only_known_from_dead_letters_is_open(ledger: Ledger) -> None:
    ledger.record_order(closing(1, 1))
    eat(ledger, X, 0)
    assert audit(ledger, RUN, DeadLetters({"alex": 1}, {("alex", X)})).proven
    sums = audit(ledger, RUN, DeadLetters({"alex": 1}, {("alex", Y)}))
    assert (sums.open_orders, sums.proven) == (["alex"], False)


@pytest.mark.parametrize("accepted", [0, 3, 2**63 - 1])
def test_a_close_without_the_order_s_id_does_not_close_it(ledger: Ledger, accepted: int) -> None:
    eat(ledger, X, 0, 1, 2)
    close(ledger, accepted)
    assert audit(ledger, RUN).open_orders == ["alex"]
    ledger.record_order(closing(1, 5))
    sums = audit(ledger, RUN)
    assert sums.total.lost >= 2
    assert not sums.proven


def test_a_run_with_baozi_that_were_never_attempted_is_not_proven(ledger: Ledger) -> None:
    close(ledger, 2)
    eat(ledger, "", 0, 1, 5)
    sums = audit(ledger, RUN)
    assert (sums.total.lost, sums.total.unexpected, sums.proven) == (0, 1, False)
    assert sums.problems == ["Unexpected: 1 eaten that no order has attempted."]
