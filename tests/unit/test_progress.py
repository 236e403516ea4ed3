"""How far an order has come: confirms come in any order, and a session may end between any two of them."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from baozi.journal import Event, Journal, OrderEvent
from baozi.progress import JournalReader, Progress, own_journal


@given(order=st.permutations(range(12)), reached=st.integers(0, 12))
def test_attempted_numbers_that_were_not_accepted_come_first_and_none_comes_twice(
    order: list[int], reached: int
) -> None:
    accepted = order[:reached]
    progress = Progress("r", "alex")
    for number in accepted:
        progress.accept(number)
    assert progress.accepted == len(accepted)
    left = list(progress.numbers(15))
    assert sorted(left + accepted) == list(range(15))
    assert left == sorted(left)


def test_an_order_whose_journal_has_gaps_resumes_at_the_gaps(tmp_path: Path) -> None:
    with Journal(tmp_path / "r" / "alex.journal") as journal:
        journal.write(Event.ATTEMPTED, *(f"r/alex/{number}" for number in range(6)))
        journal.write(Event.ACCEPTED, "r/alex/0", "r/alex/2", "r/alex/5", "r/alex/1")
    with own_journal(tmp_path, "r", "alex", resume=True) as (_, progress):
        assert (progress.accepted, progress.attempted) == (4, 6)
        assert list(progress.numbers(8)) == [3, 4, 6, 7]
        order = progress.order()
    # Below the first number, all were accepted; of those from there on, it is not known of all.
    assert (order.accepted, order.attempted) == (3, 6)


def test_an_order_without_an_end_goes_on_for_ever() -> None:
    progress = Progress("r", "alex")
    progress.accept(1)
    numbers = progress.numbers(0)
    assert [next(numbers) for _ in range(4)] == [0, 2, 3, 4]


def test_an_order_names_each_number_whose_outcome_is_unknown() -> None:
    progress = Progress("r", "alex")
    progress.attempted = 300
    for number in range(1, 300):
        progress.accept(number)
    order = progress.order()
    assert (order.accepted, order.attempted, order.unknown) == (299, 300, [[0, 0]])


@given(accepted=st.sets(st.integers(0, 40)), beyond=st.integers(0, 5))
def test_the_unknown_numbers_of_an_order_are_those_that_were_not_accepted(
    accepted: set[int], beyond: int
) -> None:
    progress = Progress("r", "alex")
    for number in accepted:
        progress.accept(number)
    progress.attempted += beyond
    order = progress.order()
    unknown = {number for first, last in order.unknown for number in range(first, last + 1)}
    assert unknown == set(range(progress.attempted)) - accepted
    assert order.accepted == len(accepted)
    ranges = progress.accepted_ranges
    assert {number for first, last in ranges for number in range(first, last + 1)} == accepted


def test_an_order_s_id_and_its_sessions_are_in_the_journal(tmp_path: Path) -> None:
    with own_journal(tmp_path, "r", "alex", resume=False) as (journal, progress):
        order_id = progress.order_id
        journal.write(OrderEvent.OPENED, f"r/alex/{order_id}/1")
        journal.write(Event.ATTEMPTED, "r/alex/0")
        journal.write(OrderEvent.CLOSED, f"r/alex/{order_id}/1")
        journal.write(OrderEvent.OPENED, f"r/alex/{order_id}/2")
    with own_journal(tmp_path, "r", "alex", resume=True) as (_, progress):
        assert (progress.order_id, progress.session, progress.closed_session) == (order_id, 2, 1)


def test_two_orders_of_one_name_have_two_ids(tmp_path: Path) -> None:
    ids = set()
    for machine in ("here", "there"):
        with own_journal(tmp_path / machine, "r", "alex", resume=False) as (_, progress):
            ids.add(progress.order_id)
    assert len(ids) == 2


def test_a_journal_is_read_on_where_it_was_left(tmp_path: Path) -> None:
    witness = JournalReader("r", [tmp_path / "r"])
    assert witness.progress() == []
    with Journal(tmp_path / "r" / "alex.journal") as journal:
        journal.write(OrderEvent.OPENED, f"r/alex/{'0' * 32}/1")
        for number in range(4):
            journal.write(Event.ACCEPTED, f"r/alex/{number}")
            (progress,) = witness.progress()
            assert (progress.accepted, progress.order_id) == (number + 1, "0" * 32)
