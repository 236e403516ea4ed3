"""Median, range, and what is called unstable."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from side_by_side.comparison_results import Verdict
from side_by_side.summary import UNSTABLE_ABOVE, spread, verdict_tally
from tests.unit.sample_results import a_run

numbers = st.floats(min_value=0.001, max_value=1e9)


@given(st.lists(numbers, min_size=1))
def test_the_median_is_within_the_range_of_what_was_measured(values: list[float]) -> None:
    seen = spread(values)
    assert seen is not None
    assert (seen.low, seen.high) == (min(values), max(values))
    assert seen.low <= seen.median <= seen.high
    assert sum(value <= seen.median for value in values) * 2 >= len(values)


def test_missing_measurements_are_left_out() -> None:
    assert spread([]) is None
    assert spread([None, math.nan]) is None
    seen = spread([None, 2.0, math.inf])
    assert seen is not None
    assert seen.values == (2.0,)


@pytest.mark.parametrize(("high", "unstable"), [(100 + 100 * UNSTABLE_ABOVE, False), (126.0, True)])
def test_a_range_wider_than_a_quarter_of_the_median_is_unstable(high: float, unstable: bool) -> None:
    seen = spread([100.0, 100.0, high])
    assert seen is not None
    assert seen.unstable is unstable


def test_the_verdict_of_several_runs_is_the_worst_of_them() -> None:
    runs = [
        a_run(verdict=verdict) for verdict in (Verdict.SOUND, Verdict.WEDGED, Verdict.SOUND, Verdict.LOST)
    ]
    seen = verdict_tally(runs)
    assert seen is not None
    assert seen.verdict is Verdict.WEDGED
    assert seen.times == {Verdict.WEDGED: 1, Verdict.LOST: 1, Verdict.SOUND: 2}
    assert not seen.as_expected
    assert seen.runs == 4
    assert verdict_tally([]) is None
