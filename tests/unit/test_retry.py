import pickle
import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject
from celery.exceptions import Retry as CeleryRetry
from hypothesis import given
from hypothesis import strategies as st

from baozi.errors import DeadLetter, ExitCode, UsageError
from baozi.retry import Retry
from baozi.worker.checking import LONGEST_DELAY

seconds = st.floats(1e-3, LONGEST_DELAY) | st.integers(1, LONGEST_DELAY)
ranges = st.tuples(seconds, seconds).map(sorted)


class Fragile:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@given(ranges, st.integers(1, 10**6) | st.just(10**30))
def test_a_pause_doubles_with_each_attempt_and_is_at_most_twice_as_long_for_jitter(
    limits: list[float], attempt: int
) -> None:
    first, longest = limits
    pause = Retry((OSError,), first=first, longest=longest).pause(attempt)
    assert first <= pause <= longest
    if attempt < 60:
        least = min(first * 2 ** (attempt - 1), longest / 2)
        assert least <= pause <= max(first, 2 * first * 2 ** (attempt - 1))


@pytest.mark.parametrize("attempt", [1, 2, 5, 9, 50])
def test_pauses_of_the_same_attempt_differ_also_at_the_longest(attempt: int) -> None:
    retry = Retry((OSError,), attempts=100)
    assert len({retry.pause(attempt) for _ in range(50)}) > 40


@pytest.mark.parametrize("attempt", [0, -1])
def test_an_attempt_before_the_first_is_refused(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempts count from 1"):
        Retry((OSError,)).pause(attempt)


@given(st.integers(1, 20), st.integers(1, 40))
def test_a_named_error_is_retried_until_no_attempt_is_left(attempts: int, made: int) -> None:
    pause = Retry((TimeoutError,), attempts=attempts).again(TimeoutError(), made)
    assert (pause is not None) == (made < attempts)


@pytest.mark.parametrize(
    ("on", "error", "retried"),
    [
        ((TimeoutError,), TimeoutError("late"), True),
        ((OSError,), ConnectionResetError(), True),
        ((OSError, KeyError), KeyError("x"), True),
        ((TimeoutError,), OSError(), False),
        ((KeyError,), ValueError(), False),
        ((Exception,), ZeroDivisionError(), True),
        ((Exception,), DeadLetter("bad"), False),
        ((Exception,), Ignore(), False),
        ((Exception,), Reject("x"), False),
        ((Exception,), CeleryRetry("x"), False),
        ((Exception,), KeyboardInterrupt(), False),
        ((Exception,), SystemExit(), False),
    ],
)
def test_only_errors_that_the_policy_names_are_retried(
    on: tuple[type[Exception], ...], error: BaseException, *, retried: bool
) -> None:
    assert (Retry(on).again(error, 1) is not None) == retried


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"on": ()}, "on must be a tuple of exception classes, but is ()."),
        ({"on": TimeoutError}, "on must be a tuple of exception classes, but is the class TimeoutError."),
        ({"on": [OSError]}, "on must be a tuple of exception classes"),
        ({"on": ("OSError",)}, "on must be a tuple of exception classes"),
        ({"on": (OSError, int)}, "on must be a tuple of exception classes"),
        ({"on": (OSError(),)}, "on must be a tuple of exception classes"),
        ({"on": (KeyboardInterrupt,)}, "on must be a tuple of exception classes"),
        ({"on": None}, "on must be a tuple of exception classes, but is None."),
        ({"on": Fragile()}, "on must be a tuple of exception classes, but is a Fragile."),
        ({"on": (OSError, DeadLetter)}, "on must not contain DeadLetter, which is never retried."),
        ({"on": (Ignore,)}, "on must not contain Ignore, which is never retried."),
        *(
            ({"attempts": it}, "attempts must be a whole number from 1")
            for it in (0, -1, 1.5, 5.0, True, "5", None)
        ),
        *(
            ({name: it}, f"{name} must be more than 0 and at most {LONGEST_DELAY} seconds")
            for name in ("first", "longest")
            for it in (0, -1, True, "1", None, float("nan"), float("inf"), LONGEST_DELAY + 1, 10**5000)
        ),
        ({"first": 10, "longest": 9.5}, "longest (9.5 s) must not be less than first (10 s)."),
        ({"first": 301}, "longest (300.0 s) must not be less than first (301 s)."),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence_where_the_policy_is_made(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=f"^Retry: {re.escape(said)}") as refused:
        Retry(**({"on": (OSError,)} | wrong))
    text = str(refused.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 200
    assert refused.value.exit_code is ExitCode.USAGE


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Retry((OSError,)).attempts = 3  # type: ignore[misc]  # this is what is tested


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ("the address is wrong", "the address is wrong"),
        (ValueError("包子"), "包子"),
        (" two\nlines ", "two\nlines"),
        ("", "The task sent its message to the dead letters."),
        (" \n", "The task sent its message to the dead letters."),
    ],
)
def test_a_dead_letter_keeps_its_reason_from_process_to_process(given_: object, reason: str) -> None:
    error = pickle.loads(pickle.dumps(DeadLetter(given_)))  # noqa: S301  # it is the pool's way, and our own
    assert type(error) is DeadLetter
    assert error.reason == str(error) == reason
