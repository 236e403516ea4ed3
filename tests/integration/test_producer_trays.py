"""The producer's tray: several baozi in one message, each still counted by itself."""

import json
import signal

import pytest

from baozi.journal import Event
from baozi.model import Tray
from tests.integration.place import Place, kill, pool_children
from tests.waiting import wait_until


def test_the_baozi_of_a_tray_are_in_one_message_and_each_is_audited(place: Place) -> None:
    result = place.produce("r", "老王", 95, "--tray", "10")
    assert (result["accepted"], result["closed"]) == (95, True)
    assert place.waiting() == 10 + 1  # the last is the order
    place.worker("小明")
    done = place.run("audit", "r", "--wait", "30", "--json")
    assert done.returncode == 0, done.stderr
    total = json.loads(done.stdout)["total"]
    assert (total["accepted"], total["eaten"], total["lost"], total["duplicated"]) == (95, 95, 0, 0)


@pytest.mark.parametrize("victim", ["pool child", "worker"])
def test_a_tray_that_is_eaten_in_part_is_redelivered_and_each_baozi_counts_once(
    private_place: Place, victim: str
) -> None:
    place = private_place
    place.produce("r", "老王", 12, "--tray", "12")
    worker = place.worker("小明", eat_seconds=0.2, journal=place.home)
    wait_until(lambda: place.eaten("r") >= 3, "some of the tray to be eaten")
    for process in pool_children(worker) if victim == "pool child" else [worker.process]:
        kill(process)
    if victim == "worker":
        wait_until(lambda: place.consumers() == 0, "the broker to notice")
        place.worker("小红", eat_seconds=0.2, journal=place.home)
    wait_until(lambda: place.eaten("r") == 12, "the rest to be eaten")
    done = place.run("audit", "r", "--wait", "30", "--json")
    assert done.returncode == 0, done.stdout
    # Those that were in the ledger were not eaten again: one alone was in hand when the process was killed.
    assert place.noted(Event.STARTED).total() <= 13


def test_a_producer_that_is_killed_goes_on_with_other_trays_and_no_number_is_twice_or_missing(
    private_place: Place,
) -> None:
    place = private_place
    place.worker("小明")
    order = ["produce", "--run", "r", "--name", "egon", "--count", "5000", "--window", "20", "--json"]
    producer = place.popen(*order, "--tray", "7")
    wait_until(lambda: place.eaten("r") > 50, "it to be at work")
    producer.send_signal(signal.SIGKILL)
    producer.communicate(timeout=20)
    done = place.run(*order, "--tray", "9", "--resume")
    assert done.returncode == 0, done.stderr
    audited = place.run("audit", "r", "--wait", "30", "--json")
    assert audited.returncode == 0, audited.stdout
    total = json.loads(audited.stdout)["total"]
    assert (total["accepted"], total["eaten"], total["lost"]) == (5000, 5000, 0)


def test_an_invalid_tray_is_dead_lettered_with_its_reason(private_place: Place) -> None:
    private_place.worker("小明")
    bad = {"run": "r", "producer": "egon", "numbers": [], "made_at": 1.0}
    with private_place.producer() as producer:
        private_place.send_eat(producer, bad, task="tasks.eat_tray")
    wait_until(lambda: private_place.waiting("baozi.dead") == 1, "it to be dead-lettered")
    listed = json.loads(private_place.run("dead", "list", "--json").stdout.splitlines()[0])
    assert "Not a tray: numbers" in json.dumps(listed)


def test_the_same_tray_put_twice_is_the_same_task_and_another_is_another() -> None:
    tray = Tray(run="r", producer="egon", numbers=[0, 1, 5], made_at=1.0)
    later = tray.model_copy(update={"made_at": 2.0})
    other = tray.model_copy(update={"numbers": [0, 1]})
    assert later.task_id == tray.task_id != other.task_id
    assert [baozi.id for baozi in tray.baozi] == ["r/egon/0", "r/egon/1", "r/egon/5"]
