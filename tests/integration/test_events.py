"""A worker's events never cost it its work."""

import time

import psutil
import pytest

from baozi.process_group import StartedProcess
from tests.integration.place import Place
from tests.waiting import wait_until

#: Baozi whose events, some 500 bytes for each, do not fit into a socket's buffers.
MANY = 20_000
#: Baozi whose events alone do not: three or so for each, in a batch that the broker does not read.
ENOUGH = 5_000


def grown(worker: StartedProcess, before: int) -> int:
    return int(psutil.Process(worker.process.pid).memory_info().rss) - before


def nothing_but_events_was_lost(place: Place, worker: StartedProcess) -> None:
    wait_until(lambda: "events while the broker took none" in worker.log.read_text(), "the count", 30)
    sums = place.sums("r")
    assert sums is not None
    assert (sums.total.eaten, sums.total.duplicated, sums.total.lost) == (MANY, 0, 0)
    log = worker.log.read_text()
    assert "onnection to broker lost" not in log
    assert "Traceback" not in log
    place.produce("r2", "alex", 1)
    wait_until(lambda: place.eaten("r2") == 1, "the worker to go on", 30)


@pytest.mark.timeout(480)  # one at a time, on a busy machine
def test_an_alarm_amid_the_work_costs_events_and_nothing_else(private_place: Place) -> None:
    place = private_place
    place.produce("r", "alex", MANY)
    worker = place.worker("小明", processes=2, tray=1)
    wait_until(lambda: place.eaten("r") > 0, "the first to be eaten", 60)
    before = grown(worker, 0)
    with place.node.memory_alarm():
        assert place.waiting() > ENOUGH, "the alarm came too late to matter"
        wait_until(lambda: place.waiting() == 0, "all to be taken under the alarm", 300)
        wait_until(lambda: place.eaten("r") == MANY, "all to be eaten under the alarm", 30)
        assert grown(worker, before) < 50_000_000
    nothing_but_events_was_lost(place, worker)


@pytest.mark.timeout(480)
def test_a_worker_that_starts_under_an_alarm_drops_events_and_nothing_else(private_place: Place) -> None:
    place = private_place
    place.produce("r", "alex", MANY)
    with place.node.memory_alarm():
        worker = place.worker("小明", processes=2)
        wait_until(lambda: place.waiting() == 0, "all to be taken under the alarm", 300)
        wait_until(lambda: place.eaten("r") == MANY, "all to be eaten under the alarm", 30)
    nothing_but_events_was_lost(place, worker)


def test_a_worker_starts_and_stops_while_an_alarm_is_on(private_place: Place) -> None:
    place = private_place
    place.produce("r", "alex", 2000)
    with place.node.memory_alarm():
        worker = place.worker("小明", processes=2)
        wait_until(lambda: place.eaten("r") == 2000, "all to be eaten under the alarm", 90)
        begun = time.monotonic()
        worker.process.terminate()
        assert worker.process.wait(timeout=40) == 0, worker.log.read_text()
        assert time.monotonic() - begun < 30
    assert "Traceback" not in worker.log.read_text()
