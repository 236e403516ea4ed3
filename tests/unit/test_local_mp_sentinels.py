"""How many ``None``, and when: what the course's rule costs, and ours."""

from pathlib import Path
from typing import Any

import pytest

from baozi.journal import Event, Journal
from baozi.workload import Workload
from local_mp import sentinel_queue
from local_mp.observed import consume, produce
from side_by_side.multiprocessing_group import MultiprocessingGroup, Role
from tests.conformance.records import Records

FAST = Workload(producers=("alex",), consumers=("小明", "小红"), make_seconds=0, eat_seconds=0, deadline=60)


def producer(queue: Any, name: str, workload: Workload, journal: Journal) -> None:
    produce(sentinel_queue, queue, name, workload, journal)


def consumer(queue: Any, name: str, workload: Workload, journal: Journal) -> None:
    consume(sentinel_queue, queue, name, workload, journal)


def one_none_a_consumer(queue: Any, _name: str, workload: Workload, _journal: Journal) -> None:
    for _ in workload.consumers:
        queue.put(None)


def one_none_a_producer(queue: Any, _name: str, workload: Workload, _journal: Journal) -> None:
    for _ in workload.producers:
        queue.put(None)


def producer_that_says_no_more(queue: Any, name: str, workload: Workload, journal: Journal) -> None:
    """Puts its ``None`` as soon as it has finished itself."""
    producer(queue, name, workload, journal)
    queue.put(None)


@pytest.mark.slow
def test_one_none_a_producer_hangs_when_consumers_outnumber_producers(tmp_path: Path) -> None:
    with MultiprocessingGroup(FAST, tmp_path, start_method="spawn") as group:
        queue = group.mp.Queue()
        consumers = [group.start(Role.CONSUMER, consumer, queue, name) for name in FAST.consumers]
        group.wait([group.start(Role.PRODUCER, producer, queue, "alex")])
        group.wait([group.start(Role.CLOSER, one_none_a_producer, queue, "close")])
        group.wait_until(lambda: not all(one.process.is_alive() for one in consumers), "one to end")
        (left,) = [one.process for one in consumers if one.process.is_alive()]
        left.join(1)
        assert left.is_alive()
    records = Records(tmp_path)
    assert records.ids(Event.EATEN) == records.ids(Event.ACCEPTED)
    assert len(records.ids(Event.EATEN)) == 10


@pytest.mark.slow
def test_one_none_a_consumer_ends_them_all(tmp_path: Path) -> None:
    with MultiprocessingGroup(FAST, tmp_path, start_method="spawn") as group:
        queue = group.mp.Queue()
        consumers = [group.start(Role.CONSUMER, consumer, queue, name) for name in FAST.consumers]
        group.wait([group.start(Role.PRODUCER, producer, queue, "alex")])
        group.start(Role.CLOSER, one_none_a_consumer, queue, "close")
        group.wait(consumers)
    assert len(Records(tmp_path).ids(Event.EATEN)) == 10


@pytest.mark.slow
def test_a_none_put_before_every_producer_has_finished_loses_what_comes_after(tmp_path: Path) -> None:
    two = FAST.model_copy(update={"producers": ("alex", "peiqi"), "consumers": ("小明",)})
    with MultiprocessingGroup(two, tmp_path, start_method="spawn") as group:
        queue = group.mp.Queue()
        eater = group.start(Role.CONSUMER, consumer, queue, "小明")
        group.wait([group.start(Role.PRODUCER, producer_that_says_no_more, queue, "alex")])
        # There will be as many None as producers, but the first one has sent the only consumer home.
        group.wait([eater])
        group.wait([group.start(Role.PRODUCER, producer_that_says_no_more, queue, "peiqi")])
    records = Records(tmp_path)
    assert len(records.ids(Event.ACCEPTED)) == 20
    assert records.ids(Event.EATEN) == [f"course/alex/{number}" for number in range(10)]
