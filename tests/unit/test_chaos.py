"""What a seed chooses, and what is called sound."""

from collections import Counter
from itertools import islice
from typing import Any

import pytest

from side_by_side.chaos import ChaosCounts, planned_faults
from side_by_side.faults.fault import ANY_BROKER, Fault
from side_by_side.faults.registry import CHAOS_FAULTS, COMPARE_FAULTS, FAULTS
from side_by_side.transports import TRANSPORTS

ALL = list(CHAOS_FAULTS.values())


def test_the_same_seed_chooses_the_same_faults_pauses_and_chances() -> None:
    assert list(islice(planned_faults(7, ALL), 200)) == list(islice(planned_faults(7, ALL), 200))
    assert list(islice(planned_faults(7, ALL), 200)) != list(islice(planned_faults(8, ALL), 200))


def test_each_fault_comes_up_so_many_times_as_was_asked_for() -> None:
    names = [choice.fault.name for choice in planned_faults(7, ALL, 3)]
    assert Counter(names) == dict.fromkeys(CHAOS_FAULTS, 3)


def test_without_a_number_what_is_quick_comes_up_more_often_and_all_do() -> None:
    deal = sum(fault.weight for fault in ALL)
    names = Counter(choice.fault.name for choice in islice(planned_faults(7, ALL), deal))
    assert names == {fault.name: fault.weight for fault in ALL}


GOOD = ChaosCounts(
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


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_each_fault_says_what_it_does_what_must_hold_and_where_it_can_run(fault: Fault[Any]) -> None:
    assert fault.does.endswith(".")
    assert fault.holds
    assert fault.transports
    assert set(fault.transports) <= TRANSPORTS.keys()
    assert fault.brokers
    assert set(fault.brokers) <= set(ANY_BROKER)
    assert fault.cases.keys() <= set(fault.transports)


def test_no_two_faults_share_a_name() -> None:
    assert len(FAULTS) == len(CHAOS_FAULTS) + len(COMPARE_FAULTS)


def test_a_comparison_expects_a_verdict_on_each_transport_on_which_a_fault_can_run() -> None:
    for fault in COMPARE_FAULTS.values():
        assert fault.cases.keys() == set(fault.transports)


@pytest.mark.parametrize(
    ("fault", "transport", "broker", "says"),
    [
        ("kill-leader", "celery", "cluster", None),
        ("kill-leader", "celery", "private", "The fault kill-leader needs --on cluster."),
        (
            "kill-worker",
            "queue",
            None,
            "The fault kill-worker cannot run on queue. It can run on celery, celery-trays.",
        ),
        ("kill-store", "manager-queue", None, None),
        ("kill-store", "celery", "container", "The fault kill-store needs --on private."),
    ],
)
def test_a_fault_says_why_it_cannot_run_on_a_transport(
    fault: str, transport: str, broker: str | None, says: str | None
) -> None:
    assert FAULTS[fault].obstacle(transport, broker) == says
