import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryCallState, Retrying

from baozi import backoff
from tests.unit.test_layout import ROOT, Names, working_code

numbers = st.floats(0.001, 1000)
ranges = st.tuples(numbers, numbers).map(sorted)


def state(attempt: int) -> RetryCallState:
    found = RetryCallState(Retrying(), None, (), {})
    found.attempt_number = attempt
    return found


@given(ranges, st.integers(1, 10**6) | st.just(10**30))
def test_a_pause_begins_with_the_first_and_is_doubled_up_to_the_longest(
    limits: list[float], attempt: int
) -> None:
    first, longest = limits
    assert backoff.exponential_backoff(1, first, longest) == first
    pause, following = (backoff.exponential_backoff(it, first, longest) for it in (attempt, attempt + 1))
    assert following == min(2 * pause, longest)


@given(ranges, st.integers(1, 10**6) | st.just(10**30))
def test_a_growing_pause_has_up_to_the_first_in_jitter_and_is_never_longer_than_the_longest(
    limits: list[float], attempt: int
) -> None:
    first, longest = limits
    plain = backoff.exponential_backoff(attempt, first, longest)
    assert plain <= backoff.exponential_wait(first, longest)(state(attempt)) <= min(plain + first, longest)


@given(ranges)
def test_a_pause_between_two_is_neither_shorter_nor_longer(limits: list[float]) -> None:
    assert limits[0] <= backoff.random_pause(*limits) <= limits[1]


@pytest.mark.parametrize("attempt", [1, 2, 100])
def test_a_steady_pause_does_not_grow(attempt: int) -> None:
    assert backoff.fixed_wait(0.2)(state(attempt)) == 0.2


@pytest.mark.parametrize("attempt", [1, 2, 10**30])
def test_without_a_first_pause_there_is_none(attempt: int) -> None:
    assert backoff.exponential_wait(0, 0)(state(attempt)) == 0


def own_backoffs(source: str) -> list[int]:
    """Lines of ``source`` that compute a pause: with tenacity's waits, by arithmetic or by chance."""
    tree = ast.parse(source)
    names = Names(tree)
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute() | ast.Name():
                if names.of(node).startswith(("tenacity.wait", "tenacity.nap.wait")):
                    found.add(node.lineno)
            case ast.BinOp(op=ast.Mult() | ast.Pow() | ast.LShift(), left=left, right=right):
                if is_pause(left) or is_pause(right):
                    found.add(node.lineno)
            case ast.AugAssign(op=ast.Mult() | ast.Add() | ast.LShift(), target=target):
                if is_pause(target):
                    found.add(node.lineno)
            case ast.Call(func=func, args=args) if names.of(func).startswith("random."):
                if any(map(is_pause, args)):
                    found.add(node.lineno)
    return sorted(found)


def is_pause(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    words = name.lower().strip("_").split("_")
    return not {"pause", "backoff", "delay", "countdown", "wait"}.isdisjoint(words)


def test_no_other_module_computes_a_backoff() -> None:
    home = Path(backoff.__file__)
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in working_code()
        if path != home
        for line in own_backoffs(path.read_text())
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "from tenacity import wait_fixed\nwait = wait_fixed(1)",
        "from tenacity.wait import wait_random as chance\nwait = chance(1)",
        "import tenacity\nwait = tenacity.wait_exponential(1)",
        "import tenacity.wait\nwait = tenacity.wait.wait_chain()",
        "pause = min(2 * pause, 5)",
        "self._pause *= 2",
        "delay = first_delay * 2 ** n",
        "backoff <<= 1",
        "countdown = 2 * countdown",
        "from random import uniform\nuniform(_FIRST_PAUSE, _LONGEST_PAUSE)",
        "import random\nrandom.uniform(0, LONGEST_PAUSE)",
    ],
)
def test_each_way_to_compute_a_backoff_is_found(source: str) -> None:
    assert own_backoffs(source)
