"""`baozi prune` deletes what is proven and can no longer be delivered, and nothing else."""

import json
import time
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from baozi.errors import ExitCode
from tests.integration.place import Place
from tests.waiting import wait_until


def prune(place: Place, *arguments: str) -> dict[str, Any]:
    done = place.run("prune", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def rows(place: Place, table: str) -> int:
    engine = create_engine(place.ledger_url)
    with engine.connect() as connection:
        count = int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608  # a test's name
    engine.dispose()
    return count


def make_old(place: Place, run: str) -> None:
    """Have all of the run happen a day ago, so that no worker can still hold a message of it."""
    engine = create_engine(place.ledger_url)
    with engine.begin() as connection:
        at = {"at": time.time() - 86_400, "run": run}
        connection.execute(text("UPDATE eaten SET eaten_at = :at WHERE run = :run"), at)
        connection.execute(text("UPDATE order_sessions SET told_at = :at WHERE run = :run"), at)
    engine.dispose()


def eat_five(place: Place, run: str) -> None:
    place.produce(run, "alex", 5)
    wait_until(lambda: place.eaten(run) == 5, "all to be eaten", timeout=60)
    assert place.run("audit", run, "--wait", "30").returncode == 0


@pytest.fixture
def done_place(private_place: Place) -> Place:
    """Where the runs old and young are sound."""
    private_place.worker("w")
    for run in ("old", "young"):
        eat_five(private_place, run)
    make_old(private_place, "old")
    return private_place


def test_old_proven_runs_are_listed_and_then_deleted(done_place: Place) -> None:
    place = done_place
    assert rows(place, "done") == 10
    refused = place.run("prune", "--yes", broker_url="amqp://127.0.0.1:1//")
    assert (refused.returncode, refused.stdout) == (ExitCode.NO_BROKER, "")
    first = prune(place)
    assert first["deleted"] == []
    old, young = first["runs"]
    assert (old["run"], old["kept"], old["rows"]) == ("old", None, 6)
    assert "younger than 60 minutes" in young["kept"]
    assert (place.home / "runs" / "old" / "alex.journal").exists()
    assert "Would delete old: 6 rows" in place.run("prune").stdout
    assert prune(place, "--yes")["deleted"] == ["old"]
    assert not (place.home / "runs" / "old").exists()
    assert (place.home / "runs" / "young" / "alex.journal").exists()
    assert [rows(place, table) for table in ("eaten", "done", "order_sessions")] == [5, 5, 1]
    assert place.run("audit", "young").returncode == 0
    # The name is free again.
    place.produce("old", "alex", 2)
    wait_until(lambda: place.eaten("old") == 2, "the new run to be eaten", timeout=60)


def test_runs_with_messages_that_could_be_delivered_again_are_kept(done_place: Place) -> None:
    place = done_place
    for started in place.process_group.processes:
        started.process.terminate()
    wait_until(lambda: place.consumers() == 0, "the worker to stop", timeout=60)
    # A copy of a message that was eaten, as a lost acknowledgement leaves one.
    with place.producer() as producer:
        place.send_eat(producer, {"run": "old", "producer": "alex", "number": 0, "made_at": 1.0})
    wait_until(lambda: place.waiting() == 1, "the message to wait")
    refused = place.run("prune", "old", "--yes")
    assert refused.returncode == ExitCode.USAGE
    assert "The queue is not empty" in refused.stderr
    assert rows(place, "eaten") == 10


def test_a_run_with_a_dead_letter_or_an_open_order_stays(done_place: Place) -> None:
    place = done_place
    with place.producer() as producer:
        # Another order's: its number is in use, so it dies.
        place.send_eat(producer, {"run": "old", "producer": "alex", "number": 0, "made_at": 1.0})
        item = {"run": "open", "producer": "alex", "number": 0, "made_at": 1.0}
        place.send_eat(producer, item)
    wait_until(lambda: place.waiting("baozi.dead") == 1 and place.eaten("open") == 1, "both to be settled")
    told = {one["run"]: one["kept"] for one in prune(place, "--yes")["runs"]}
    assert told["old"]
    assert "It is open" in told["open"]
    assert rows(place, "eaten") == 11


def test_a_run_that_is_not_there_is_named(private_place: Place) -> None:
    private_place.run("ledger", "upgrade")
    refused = private_place.run("prune", "nowhere")
    assert (refused.returncode, refused.stdout) == (ExitCode.USAGE, "")
    assert "There is no run nowhere" in refused.stderr
