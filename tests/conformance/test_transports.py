"""What every transport must do while nobody dies."""

from pathlib import Path

import pytest

from baozi.journal import Event
from baozi.workload import Workload
from tests.conformance.adapters import ADAPTERS, Adapter
from tests.conformance.records import Records

pytestmark = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)

FLAT_OUT = Workload(make_seconds=0, eat_seconds=0, deadline=60)


def run(adapter: Adapter, folder: Path, **changes: object) -> Records:
    adapter.run(Workload.model_validate(FLAT_OUT.model_dump() | changes), folder)
    return Records(folder)


def test_every_accepted_baozi_is_eaten_once(adapter: Adapter, tmp_path: Path) -> None:
    records = run(adapter, tmp_path, per_producer=50)
    expected = sorted(f"course/{name}/{n}" for name in FLAT_OUT.producers for n in range(50))
    for event in (Event.ATTEMPTED, Event.ACCEPTED, Event.STARTED, Event.EATEN):
        assert records.ids(event) == expected, event
    assert not records.ids(Event.MISSED), "a journal could not be written"


def test_a_producers_baozi_keep_their_order(adapter: Adapter, tmp_path: Path) -> None:
    records = run(adapter, tmp_path, per_producer=50, consumers=("小明",), capacity=5)
    for name in FLAT_OUT.producers:
        started = [record.number for record in records.of(Event.STARTED) if record.producer == name]
        assert started == list(range(50)), name


def test_a_tray_carries_several_and_the_last_may_hold_fewer(adapter: Adapter, tmp_path: Path) -> None:
    records = run(adapter, tmp_path, per_producer=7, tray=3)
    assert len(records.ids(Event.ACCEPTED)) == 21
    assert records.ids(Event.EATEN) == records.ids(Event.ACCEPTED)


def test_a_capacity_makes_put_wait(adapter: Adapter, tmp_path: Path) -> None:
    slow = {"producers": ("alex",), "consumers": ("小明",), "per_producer": 30, "eat_seconds": 0.02}
    unbounded = run(adapter, tmp_path / "unbounded", **slow)
    bounded = run(adapter, tmp_path / "bounded", **slow, capacity=3)
    # One more may be out of the queue whose start the consumer is about to write down.
    most = 3 + 1 + adapter.slack
    assert unbounded.most_waiting() > most, "the consumer is not slow enough for this test to say anything"
    assert bounded.most_waiting() <= most
    assert bounded.ids(Event.EATEN) == bounded.ids(Event.ATTEMPTED)


def test_an_empty_queue_makes_get_wait(adapter: Adapter, tmp_path: Path) -> None:
    # The consumers are there from the start and the first baozi comes late: who did not wait would have left.
    records = run(adapter, tmp_path, producers=("alex",), per_producer=3, make_seconds=0.4)
    attempted = {record.baozi_id: record.at for record in records.of(Event.ATTEMPTED)}
    started = {record.baozi_id: record.at for record in records.of(Event.STARTED)}
    assert len(started) == 3
    assert all(attempted[baozi_id] <= at for baozi_id, at in started.items())
    assert records.ids(Event.EATEN) == records.ids(Event.ACCEPTED)


def test_a_clean_stop_loses_nothing(adapter: Adapter, tmp_path: Path) -> None:
    records = run(adapter, tmp_path, per_producer=20, eat_seconds=0.02)
    end_of_making = records.of(Event.ACCEPTED)[-1].at
    eaten_by_then = [record for record in records.of(Event.EATEN) if record.at <= end_of_making]
    assert len(eaten_by_then) < 60, "nothing was left to eat when the last producer finished"
    assert records.ids(Event.EATEN) == records.ids(Event.ACCEPTED)
    assert len(records.ids(Event.EATEN)) == 60


def test_names_in_any_script_survive(adapter: Adapter, tmp_path: Path) -> None:
    producers, consumers = ("阿历克斯", "ёж 🥟", "é" * 60), ("小明", "مريم")
    records = run(adapter, tmp_path, run="第一次", producers=producers, consumers=consumers, per_producer=5)
    expected = sorted(f"第一次/{name}/{number}" for name in producers for number in range(5))
    assert records.ids(Event.EATEN) == expected
    assert {record.name for record in records.of(Event.ACCEPTED)} == set(producers)
    assert {record.name for record in records.of(Event.EATEN)} <= set(consumers)
