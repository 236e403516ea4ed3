"""What `baozi watch` reads: only while somebody looks, and no source stops another."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from baozi.errors import ExitCode, LedgerAway
from baozi.status import Part
from baozi.watch.feed import Feed, LiveSource, Viewer
from tests.waiting import wait_until


class Readings:
    """A source that counts how often it is read."""

    def __init__(self, seconds: float = 0) -> None:
        self.count = 0
        self.seconds = seconds

    def __call__(self) -> Part:
        self.count += 1
        time.sleep(self.seconds)
        return Part(facts={"count": self.count})


@contextmanager
def looking(feed: Feed) -> Iterator[Callable[[], dict[str, Any]]]:
    """Look at the feed; yield a function that returns the newest reading of each source."""
    viewer, seen = Viewer(lambda: None), {}

    def newest() -> dict[str, Any]:
        seen.update({one["name"]: one for one in map(json.loads, viewer.take())})
        return seen

    feed.add(viewer)
    yield newest
    feed.remove(viewer)


def test_without_a_viewer_nothing_is_read() -> None:
    source = Readings()
    feed = Feed([LiveSource("one", source, every=0.01)])
    feed.start()
    time.sleep(0.1)
    assert source.count == 0
    with looking(feed):
        wait_until(lambda: source.count >= 3, "three readings")
    time.sleep(0.1)  # a reading that was begun ends
    count = source.count
    time.sleep(0.2)
    assert source.count == count


def test_a_source_that_fails_or_hangs_does_not_stop_the_others_and_is_shown_as_a_sentence() -> None:
    def fail() -> Part:
        raise LedgerAway()

    def break_down() -> Part:
        raise ZeroDivisionError

    good, forever = Readings(), threading.Event()

    def hang() -> Part:
        forever.wait(60)
        return Part()

    sources: dict[str, Callable[[], Part]] = {"bad": fail, "bug": break_down, "hangs": hang, "good": good}
    feed = Feed([LiveSource(name, read, every=0.01) for name, read in sources.items()])
    feed.start()
    with looking(feed) as newest:
        wait_until(lambda: good.count >= 3 and {"bad", "bug", "good"} <= newest().keys(), "the readings")
        assert newest()["bad"]["problem"]["en"] == str(LedgerAway())
        assert newest()["bad"]["problem"]["zh"].startswith("账本")
        assert newest()["bug"]["problem"]["en"] == "Unexpected ZeroDivisionError: this is a bug."
        assert newest()["good"]["problem"] is None
        assert "hangs" not in newest()
    snapshot = feed.snapshot(timeout=0.3)
    assert {name: one.exit_code for name, one in snapshot.items()} == {
        "bad": ExitCode.NO_LEDGER,
        "bug": ExitCode.BUG,
        "hangs": ExitCode.UNHEALTHY,
        "good": ExitCode.OK,
    }
    forever.set()


def test_a_slow_source_is_read_seldom_so_that_it_costs_less_than_three_percent() -> None:
    slow = Readings(seconds=0.05)
    feed = Feed([LiveSource("slow", slow, every=0.01)])
    feed.start()
    with looking(feed):
        wait_until(lambda: slow.count == 1, "the first reading")
        time.sleep(1)
        assert slow.count == 1, "0.05 s of 1 s would be 5 %"
        feed.read_again("slow")
        wait_until(lambda: slow.count == 2, "the reading that was asked for")


def test_a_slow_viewer_gets_the_newest_reading_only() -> None:
    viewer = Viewer(lambda: None)
    for number in range(1000):
        viewer.give("one", str(number))
    viewer.give("other", "x")
    assert viewer.take() == ["999", "x"]
    assert viewer.take() == []


def test_who_comes_later_sees_what_was_read_before_at_once() -> None:
    feed = Feed([LiveSource("one", Readings(), every=60)])
    feed.start()
    with looking(feed) as newest:
        wait_until(newest, "a reading")
        with looking(feed) as others:
            assert others()["one"]["facts"] == {"count": 1}
