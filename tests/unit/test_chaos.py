"""What a seed chooses, and what is called sound."""

from collections import Counter
from itertools import islice

import pytest

from side_by_side.chaos import choices
from side_by_side.chaos_results import Sums
from side_by_side.faults.table import STRIKES

ALL = list(STRIKES.values())


def test_the_same_seed_chooses_the_same_faults_pauses_and_chances() -> None:
    assert list(islice(choices(7, ALL), 200)) == list(islice(choices(7, ALL), 200))
    assert list(islice(choices(7, ALL), 200)) != list(islice(choices(8, ALL), 200))


def test_each_fault_comes_up_so_many_times_as_was_asked_for() -> None:
    names = [choice.strike.name for choice in choices(7, ALL, 3)]
    assert Counter(names) == dict.fromkeys(STRIKES, 3)


def test_without_a_number_what_is_quick_comes_up_more_often_and_all_do() -> None:
    deal = sum(strike.often for strike in ALL)
    names = Counter(choice.strike.name for choice in islice(choices(7, ALL), deal))
    assert names == {strike.name: strike.often for strike in ALL}


def test_each_fault_says_what_must_hold() -> None:
    assert all(strike.holds and strike.name == name for name, strike in STRIKES.items())


GOOD = Sums(
    accepted=9,
    eaten=10,
    lost=0,
    recovered=1,
    unexpected=0,
    eaten_twice=0,
    deliveries=12,
    most_deliveries=12,
    dead=0,
)


@pytest.mark.parametrize(
    "bad",
    [
        {"accepted": None},
        {"lost": 1},
        {"unexpected": 1},
        {"eaten_twice": 1},
        {"deliveries": 13},
        {"dead": 1},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_sums_are_sound_unless_something_is_amiss(bad: dict[str, object]) -> None:
    assert GOOD.sound
    assert not GOOD.model_copy(update=bad).sound
