"""How large a batch becomes: by what the function takes, and back to one at the first slow or bad message."""

import pytest

from baozi.worker.batch_size import LARGEST, BatchSize
from baozi.worker.prefetching import Prefetch

LONGEST_S = 0.05


def grown(seconds: float, batches: int = 20) -> BatchSize:
    """The size after some full batches of a function that takes ``seconds``."""
    size = BatchSize(LARGEST, LONGEST_S)
    size.executed_alone(seconds)
    for _ in range(batches):
        size.executed([seconds] * size.now, failed=False)
    return size


def test_a_fixed_size_never_changes() -> None:
    size = BatchSize(10)
    size.executed([9.0], failed=True)
    size.executed_alone(9.0)
    assert (size.now, size.is_measured) == (10, False)


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, LARGEST), (0.0001, LARGEST), (0.0016, 31), (0.011, 4), (0.06, 1), (0.1, 1)]
)
def test_a_batch_takes_as_many_as_take_50_ms(seconds: float, wanted: int) -> None:
    assert grown(seconds).now == wanted


def test_it_begins_with_one_and_at_most_doubles() -> None:
    size = BatchSize(LARGEST, LONGEST_S)
    assert size.now == 1
    seen = []
    size.executed_alone(0.002)
    for _ in range(7):
        seen.append(size.now)
        size.executed([0.0001] * size.now, failed=False)
    assert seen == [2, 4, 8, 16, 32, 64, 100]


def test_what_celery_executed_alone_with_its_commit_never_makes_it_smaller() -> None:
    size = grown(0.0001)
    size.executed_alone(0.04)
    size.executed_alone(0.5)
    assert size.now == LARGEST


def test_one_slow_message_among_fast_ones_makes_it_one_at_once() -> None:
    size = grown(0.0001)
    size.executed([0.0001] * 99 + [0.05], failed=False)
    assert size.now == 1


def test_functions_that_become_slower_make_it_smaller_at_once() -> None:
    size = grown(0.0001)
    size.executed([0.01] * 3, failed=False)
    assert size.now == 5


def test_a_message_that_fails_makes_it_one_so_that_the_next_ones_fail_alone() -> None:
    size = grown(0.0001)
    size.executed([0.0001] * 99, failed=True)
    assert size.now == 1
    size.executed([], failed=True)
    assert size.now == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the clock, in seconds."""
    now = [100.0]
    monkeypatch.setattr("baozi.worker.prefetching.time.monotonic", lambda: now[0])
    return now


def test_two_batches_are_prefetched_and_little_while_functions_are_slow(clock: list[float]) -> None:
    changes: list[int] = []
    prefetch = Prefetch(4, LARGEST, LONGEST_S, changes.append)
    prefetch.size.executed_alone(0.1)
    prefetch.adapt()
    assert changes == []
    prefetch.size.executed_alone(0.001)
    for _ in range(8):
        prefetch.adapt()
        prefetch.size.executed([0.0001], failed=False)
    assert changes == [8, 32, 128, 200], "few changes: each is a new consumer"
    prefetch.size.executed([0.1], failed=False)
    prefetch.adapt()
    clock[0] += 0.9
    prefetch.size.executed([0.1], failed=False)
    prefetch.adapt()
    assert changes[-1] == 200, "it may have been one slow message"
    clock[0] += 0.2
    prefetch.adapt()
    assert changes[-1] == 4


def test_one_slow_message_among_fast_ones_does_not_change_what_is_prefetched(clock: list[float]) -> None:
    changes: list[int] = []
    prefetch = Prefetch(1, LARGEST, LONGEST_S, changes.append)
    prefetch.size.now = LARGEST
    prefetch.adapt()
    for _ in range(30):
        clock[0] += 0.2
        prefetch.size.executed([0.1], failed=False)
        prefetch.adapt()
        clock[0] += 0.2
        prefetch.size.now = LARGEST
        prefetch.adapt()
    assert changes == [200]


def test_what_the_app_prefetches_for_larger_fixed_batches_stays() -> None:
    changes: list[int] = []
    prefetch = Prefetch(400, LARGEST, LONGEST_S, changes.append)
    prefetch.size.now = LARGEST
    prefetch.adapt()
    assert changes == []
