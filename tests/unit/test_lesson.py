"""The recording of the lesson, and the page that is made from it."""

import re

from hypothesis import given
from hypothesis import strategies as st

from baozi.journal import Entry, Event
from side_by_side.comparison_results import Verdict
from side_by_side.journal_analysis import JournalLine
from side_by_side.lesson.lesson_page import PAGE, lesson_in, page_of
from side_by_side.lesson.recorded import RecordedRun, of_items
from side_by_side.lesson.scenarios import scenes

#: The largest page that is allowed, in bytes.
MOST = 3_000_000


def test_the_page_is_made_from_its_parts_and_its_recording() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page_of(lesson_in(page)) == page, "run `python -m side_by_side.lesson --page-only`"
    assert len(page.encode()) < MOST


def test_the_page_loads_nothing() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", page) == ["data:,"]
    assert not re.search(r"https?://|@import|fetch\(|XMLHttpRequest|url\(", page)


def test_the_recording_has_each_run_with_the_verdict_that_is_known() -> None:
    runs = lesson_in(PAGE.read_text(encoding="utf-8")).runs
    known = [(it.failure.name, it.transport.name, it.without, it.expected) for it in scenes()]
    assert [(run.failure, run.transport, run.without, run.verdict) for run in runs] == known


def test_a_recorded_kill_comes_while_there_is_something_to_lose() -> None:
    for run in lesson_in(PAGE.read_text(encoding="utf-8")).runs:
        assert (run.kill is not None) == run.failure.startswith("kill-")
        if run.kill is not None:
            assert 0 < run.kill.at < run.lines[-1][0]
        assert (run.counts.lost > 0) == (run.verdict in {Verdict.LOST, Verdict.WEDGED}), title(run)


def title(run: RecordedRun) -> str:
    return f"{run.failure}, {run.transport}, {run.without}"


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_a_tray_is_one_item_and_is_eaten_when_its_last_baozi_is(tray: int, items: int, times: int) -> None:
    numbers = range(tray * items)
    at = iter(range(10_000))

    def lines(event: Event, name: str) -> list[JournalLine]:
        return [JournalLine(Entry(next(at), event, f"r/alex/{number}"), name) for number in numbers]

    put = [*lines(Event.ATTEMPTED, "alex"), *lines(Event.ACCEPTED, "alex"), *lines(Event.STARTED, "小明")]
    eaten = [line for _ in range(times) for line in lines(Event.EATEN, "小明")]
    moves = list(of_items([*put, *eaten], tray))
    for event, of_each in [
        (Event.ATTEMPTED, 1),
        (Event.ACCEPTED, 1),
        (Event.STARTED, 1),
        (Event.EATEN, times),
    ]:
        assert [number for _, it, _, number, _ in moves if it is event] == [*range(items)] * of_each
    last = [float(at_end) for at_end, it, *_ in moves if it is Event.EATEN]
    assert last == [
        line.entry.at for line in eaten if (int(line.entry.baozi_id.rpartition("/")[2]) + 1) % tray == 0
    ]
