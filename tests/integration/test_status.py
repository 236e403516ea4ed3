"""`baozi status` on a real broker and real workers, also when a part is broken."""

import json
import signal
from typing import Any

from baozi.errors import ExitCode
from baozi.status import differing
from tests.integration.place import Place
from tests.waiting import wait_until

#: Nothing listens there.
NOWHERE = "amqp://guest:sekret-of-a-test@127.0.0.1:1//"


def status(place: Place, *more: str, **changes: object) -> tuple[int, dict[str, Any]]:
    done = place.run("status", "--json", "--timeout", "20", *more, **changes)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_system_that_works_is_shown_part_by_part_and_exits_with_0(place: Place) -> None:
    place.worker("小明")
    place.produce("lunch", "老王", 3)
    with place.producer() as producer:
        for _ in range(2):
            place.send_eat(producer, "no baozi")
    wait_until(lambda: place.eaten("lunch") == 3 and place.waiting("baozi.dead") == 2, "all to be settled")
    code, told = status(place)
    assert (code, told["exit_code"]) == (ExitCode.OK, 0), told
    work, dead = told["broker"]["facts"]["queues"]
    assert (work["name"], work["ready"], work["consumers"]) == ("baozi", 0, 1)
    assert (dead["name"], dead["ready"]) == ("baozi.dead", 2)
    (worker,) = told["workers"]["facts"]["workers"]
    assert worker["name"].startswith("小明@")
    assert (worker["version"], worker["active"], worker["settings"]["queue"]) == ("0.1.0", 0, "baozi")
    ledger = told["ledger"]["facts"]
    assert ledger["schema"] == ledger["needed"]
    assert ledger["bytes"] > 0
    assert told["dead_letters"]["facts"]["looked_at"] == 2
    (reason,) = told["dead_letters"]["facts"]["reasons"]
    assert reason == "NotABaozi"
    shown = place.run("status", "--timeout", "20").stdout
    assert "queue baozi.dead: 2 ready" in shown
    assert "小明@" in shown


def test_a_broker_that_is_away_does_not_hide_the_ledger(private_place: Place) -> None:
    assert private_place.run("ledger", "upgrade").returncode == 0
    code, told = status(private_place, broker_url=NOWHERE)
    assert code == ExitCode.NO_BROKER
    assert "does not answer" in told["broker"]["problem"]
    assert "does not answer" in told["dead_letters"]["problem"]
    assert told["ledger"]["problem"] is None
    assert "sekret" not in json.dumps(told)


def test_a_ledger_that_is_away_does_not_hide_the_broker_and_its_workers(private_place: Place) -> None:
    private_place.worker("w")
    code, told = status(private_place, ledger_url="sqlite:////proc/no/ledger.sqlite3")
    assert code == ExitCode.NO_LEDGER
    assert told["ledger"]["problem"]
    assert told["broker"]["problem"] is None
    assert len(told["workers"]["facts"]["workers"]) == 1


def test_without_a_worker_that_answers_it_exits_with_6(private_place: Place) -> None:
    worker = private_place.worker("w").process
    worker.suspend()
    code, told = status(private_place, "--timeout", "5")
    worker.resume()
    assert code == ExitCode.UNHEALTHY
    assert "No worker answers" in told["workers"]["problem"]
    assert told["broker"]["facts"]["queues"][0]["consumers"] == 1


def test_watching_prints_a_line_each_time_until_ctrl_c(private_place: Place) -> None:
    with private_place.popen(
        "status", "--json", "--watch", "--interval", "0.5", broker_url=NOWHERE
    ) as watching:
        assert watching.stdout is not None
        for _ in range(2):
            assert json.loads(watching.stdout.readline())["exit_code"] == ExitCode.NO_BROKER
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == ExitCode.INTERRUPTED


def test_settings_in_which_workers_differ_are_listed_with_the_value_of_each() -> None:
    def worker(name: str, version: str, **settings: object) -> dict[str, object]:
        return {"name": name, "version": version, "settings": settings}

    same = worker("a", "1", tray=100, ledger=None)
    assert differing([same, worker("b", "1", tray=100, ledger=None)]) == {}
    assert differing([same, worker("b", "2", tray=1, ledger=None)]) == {
        "version": {"a": "1", "b": "2"},
        "tray": {"a": 100, "b": 1},
    }
