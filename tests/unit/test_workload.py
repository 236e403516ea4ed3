import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baozi.errors import UsageError
from baozi.workload import Workload, checked_workload


def test_the_defaults_are_the_courses() -> None:
    workload = Workload()
    assert workload.producers == ("alex", "peiqi", "egon")
    assert workload.consumers == ("小明", "小红")
    assert (workload.per_producer, workload.make_seconds, workload.eat_seconds) == (10, 1, 2)
    assert workload.capacity is None
    assert workload.total == 30
    assert workload.least_seconds == 31


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"consumers": ()}, "The workload's consumers are none, and a workload without them cannot end."),
        ({"producers": ()}, "The workload's producers are none"),
        ({"producers": ("a", "b", "a")}, "The workload's producers have one name twice: a."),
        ({"producers": ("a/b",)}, "must not contain '/'"),
        ({"deadline": 31}, "The workload cannot end: it takes 31 s or more, its deadline is 31 s."),
        ({"make_seconds": 1000}, "cannot end"),
        ({"per_producer": 0}, "The workload's per_producer should be greater than or equal to 1."),
        ({"capacity": 0}, "The workload's capacity should be"),
        ({"tray": 0}, "The workload's tray should be"),
        ({"eat_seconds": -1}, "The workload's eat_seconds should be"),
        ({"eat_seconds": float("nan")}, "The workload's eat_seconds should be a finite number."),
        ({"deadline": 0}, "The workload's deadline should be"),
        ({"per_producer": "10"}, "The workload's per_producer should be a valid integer."),
        ({"speed": 1}, "The workload's speed is unknown."),
    ],
)
def test_a_workload_out_of_range_is_a_usage_error_of_one_sentence(
    fields: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        checked_workload(**fields)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_workload_reads_itself_back_from_json() -> None:
    workload = Workload(capacity=3, tray=2, consumers=("小明",))
    assert Workload.model_validate_json(workload.model_dump_json()) == workload


def test_a_pace_is_a_factor_on_the_seconds() -> None:
    fast, slow = Workload().paced(0.1), Workload().paced(10)
    assert (fast.make_seconds, fast.eat_seconds, fast.deadline) == pytest.approx((0.1, 0.2, 120))
    assert (slow.make_seconds, slow.eat_seconds, slow.deadline) == (10, 20, 1200)
    with pytest.raises(UsageError):
        Workload().paced(-1)


@given(count=st.integers(1, 50), tray=st.integers(1, 60))
def test_trays_hold_every_number_once_and_in_order(count: int, tray: int) -> None:
    workload = Workload(per_producer=count, tray=tray, make_seconds=0, eat_seconds=0)
    trays = list(workload.trays("alex"))
    assert [baozi.number for each in trays for baozi in each] == list(range(count))
    assert {len(each) for each in trays[:-1]} <= {tray}
    assert 1 <= len(trays[-1]) <= tray


def test_the_time_of_a_put_does_not_reduce_the_rate() -> None:
    workload = Workload(per_producer=20, make_seconds=0.02, eat_seconds=0)
    began = time.monotonic()
    for _ in workload.trays("alex"):
        time.sleep(0.01)  # a put that takes half of the time between two baozi
    # By the clock it is 20 x 0.02 s and the last put; by naps it would be 20 x 0.03 s.
    assert 0.4 <= time.monotonic() - began < 0.55
