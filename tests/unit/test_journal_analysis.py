"""The sums of a run, against a plain model of what its processes did and wrote down."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baozi.journal import Entry, Event, Journal
from side_by_side.comparison_results import Verdict
from side_by_side.journal_analysis import (
    JournalLine,
    count,
    eaten_by,
    latency,
    per_second,
    read_lines,
    timeline,
    verdict,
)


@dataclass(frozen=True)
class Fate:
    """What befell one baozi."""

    attempts: int
    accepted: bool
    times_eaten: int

    def events(self) -> Iterator[Event]:
        yield from [Event.ATTEMPTED] * self.attempts
        yield from [Event.ACCEPTED] * self.accepted
        for _ in range(self.times_eaten):
            yield from (Event.STARTED, Event.EATEN)


FATES = st.builds(Fate, st.integers(0, 3), st.booleans(), st.integers(0, 3)).filter(
    lambda fate: fate.attempts > 0 or not fate.accepted
)


@given(fates=st.lists(FATES, max_size=30), data=st.data())
def test_the_sums_are_those_of_a_plain_model(fates: list[Fate], data: st.DataObject) -> None:
    entries = [
        Entry(0.0, event, f"run/alex/{number}")
        for number, fate in enumerate(fates)
        for event in fate.events()
    ]
    sums = count(data.draw(st.permutations(entries)))
    assert sums.attempted == sum(fate.attempts > 0 for fate in fates)
    assert sums.accepted == sum(fate.accepted for fate in fates)
    assert sums.eaten == sum(fate.times_eaten > 0 for fate in fates)
    assert sums.lost == sum(fate.accepted and not fate.times_eaten for fate in fates)
    assert sums.duplicated == sum(max(0, fate.times_eaten - 1) for fate in fates)
    assert sums.recovered == sum(
        fate.attempts > 0 and not fate.accepted and fate.times_eaten > 0 for fate in fates
    )
    assert sums.unexpected == sum(not fate.attempts and fate.times_eaten > 0 for fate in fates)
    assert sums.accepted - sums.lost + sums.recovered + sums.unexpected == sums.eaten


@pytest.mark.parametrize(
    ("fates", "expected"),
    [
        ([Fate(1, True, 1)], Verdict.SOUND),
        ([Fate(1, False, 1)], Verdict.SOUND),  # recovered
        ([Fate(1, False, 0)], Verdict.SOUND),  # never accepted, never promised
        ([Fate(1, True, 2)], Verdict.DUPLICATED),
        ([Fate(0, False, 1)], Verdict.DUPLICATED),  # unexpected
        ([Fate(1, True, 0), Fate(1, True, 2)], Verdict.LOST),
    ],
)
def test_the_verdict_is_the_worst_that_applies(fates: list[Fate], expected: Verdict) -> None:
    entries = [
        Entry(0.0, event, f"run/alex/{number}")
        for number, fate in enumerate(fates)
        for event in fate.events()
    ]
    assert verdict(count(entries), ended=True) is expected
    assert verdict(count(entries), ended=False) is Verdict.WEDGED


def test_an_attempt_whose_line_was_torn_was_still_attempted() -> None:
    sums = count([Entry(0.0, Event.ACCEPTED, "run/alex/0"), Entry(0.0, Event.EATEN, "run/alex/0")])
    assert (sums.attempted, sums.unexpected) == (1, 0)


def test_journals_are_read_at_any_depth_in_the_order_of_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "home" / "runs" / "r" / "alex.journal") as alex:
        alex.write(Event.ATTEMPTED, "r/alex/0")
        with Journal(tmp_path / "consumer" / "小明.journal") as ming:
            ming.write(Event.EATEN, "r/alex/0")
        alex.write(Event.ACCEPTED, "r/alex/0")
    lines = read_lines(tmp_path)
    assert [(line.name, line.entry.event.value) for line in lines] == [
        ("alex", "attempted"),
        ("小明", "eaten"),
        ("alex", "accepted"),
    ]
    assert eaten_by(lines) == {"小明": 1}


def lines_of(event: Event, times: list[float]) -> list[JournalLine]:
    return [JournalLine(Entry(at, event, f"r/alex/{number}"), "alex") for number, at in enumerate(times)]


def test_a_rate_leaves_the_warm_up_out() -> None:
    slow_start = [0.0, 10.0, *(10.0 + number * 0.1 for number in range(1, 19))]
    assert per_second(lines_of(Event.EATEN, slow_start), Event.EATEN) == pytest.approx(10)
    assert per_second(lines_of(Event.EATEN, [1.0]), Event.EATEN) == 0
    assert per_second([], Event.EATEN) == 0


def test_latency_is_from_attempted_to_first_eaten() -> None:
    attempted = lines_of(Event.ATTEMPTED, [number * 0.5 for number in range(101)])
    eaten = lines_of(Event.EATEN, [number * 0.5 + number / 100 for number in range(101)])
    again = [JournalLine(Entry(1000.0, Event.EATEN, "r/alex/0"), "小红")]
    seen = latency([*attempted, *eaten, *again])
    assert seen is not None
    assert seen.offered_per_second == pytest.approx(2)
    assert [seen.p50, seen.p99, seen.max] == pytest.approx([0.5, 0.99, 1])
    assert [wait for _, wait in seen.curve] == sorted(wait for _, wait in seen.curve)
    assert latency(attempted) is None


def test_a_timeline_rises_to_the_sums() -> None:
    lines = sorted(
        lines_of(Event.ACCEPTED, [float(number) for number in range(10)])
        + lines_of(Event.EATEN, [number + 0.5 for number in range(8)]),
        key=lambda line: line.entry.at,
    )
    moments = timeline(lines, 20.0)
    assert (moments[0].accepted, moments[0].eaten) == (1, 0)
    assert (moments[-1].at, moments[-1].accepted, moments[-1].eaten) == (20.0, 10, 8)
    assert timeline([], 1.0) == []
