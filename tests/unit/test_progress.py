"""How far an order has come: confirms come in any order, and a session may end between any two of them."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from baozi.journal import Event, Journal
from baozi.progress import Progress
from producers.producer import own_journal


@given(order=st.permutations(range(12)), reached=st.integers(0, 12))
def test_what_was_attempted_and_not_accepted_comes_first_and_nothing_twice(
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


def test_a_journal_with_gaps_is_gone_on_with_from_the_gaps(tmp_path: Path) -> None:
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
