"""What the operator's page shows is bounded, however large the system is."""

import json
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from baozi.ledger import Ledger
from baozi.ledger_schema import eaten
from baozi.ledger_url import file_url
from baozi.watch.newest import NEWEST, EatenBaozi, facts, newest
from baozi.watch.sources import summary

#: A reading's bytes, at most: what a page gets of a thousand workers.
_LARGEST = 50_000


def a_thousand_workers() -> tuple[dict[str, Any], dict[str, Any]]:
    names = [f"w{number}@host" for number in range(1000)]
    own = {"version": "1", "settings": {"tray": None}}
    stats = {name: {"total": {"tasks.eat": 10}, "uptime": 5, "baozi": own} for name in names}
    stats["w7@host"]["baozi"] = {"version": "2", "settings": {"tray": None}}
    active = {name: [{"name": "tasks.eat"}] * (number % 9) for number, name in enumerate(names)}
    active["w3@host"] = [{"name": f"task {number}"} for number in range(500)]
    return stats, active


def test_of_a_thousand_workers_the_busiest_are_named_and_all_are_counted() -> None:
    stats, active = a_thousand_workers()
    told = summary(stats, active)
    assert (told["count"], told["received"]) == (1000, 10_000)
    assert told["active"] == sum(map(len, active.values()))
    assert len(told["workers"]) == 50
    assert told["workers"][0] == {
        "name": "w3@host",
        "active": 500,
        "tasks": ["task 0 × 1", "task 1 × 1", "task 2 × 1"],
        "received": 10,
        "uptime_seconds": 5,
    }
    assert told["workers"][1]["active"] == 8
    assert told["tasks"][0] == {"task": "tasks.eat", "count": told["active"] - 500}
    assert len(told["tasks"]) == 20
    assert told["differ_in"] == ["version"]
    assert len(json.dumps(told)) < _LARGEST


def test_a_worker_without_our_statistics_is_a_worker_too() -> None:
    told = summary({"other@host": {}}, {})
    assert (told["count"], told["active"], told["workers"][0]["received"]) == (1, 0, 0)


def filled(folder: Path, seconds_ago: list[float], latency: float = 2.0) -> Ledger:
    """A ledger with a row for each of ``seconds_ago``, in this order."""
    ledger = Ledger(file_url(folder / "ledger.sqlite3")).open()
    now = time.time()
    rows = [
        {
            "baozi_id": str(number),
            "run": "lunch",
            "producer": "alex",
            "number": number,
            "consumer": f"小明 {number % 30}",
            "machine": "m",
            "made_at": now - ago - latency,
            "eaten_at": now - ago,
            "deliveries": 1,
        }
        for number, ago in enumerate(seconds_ago)
    ]
    with ledger._writing() as connection:
        connection.execute(insert(eaten), rows)
    return ledger


def test_the_newest_rows_of_many_are_found_by_their_rowid_and_not_by_looking_at_all(tmp_path: Path) -> None:
    ledger = filled(tmp_path, [3 * NEWEST - number for number in range(3 * NEWEST)])
    with ledger.reading() as connection:
        rows = newest(connection)
        plan = connection.execute(
            text("EXPLAIN QUERY PLAN SELECT run FROM eaten ORDER BY rowid DESC LIMIT 1000")
        )
        assert "TEMP B-TREE" not in str(plan.all())
    ledger.close()
    assert len(rows) == NEWEST
    told = facts(rows)
    assert 0.9 < told["per_second"] < 1.1
    assert told["window_seconds"] == 60
    assert told["latency"] == dict.fromkeys(("p50", "p95", "p99", "max"), told["latency"]["max"])
    assert 1.9 < told["latency"]["p50"] < 2.1
    assert (len(told["consumers"]), told["consumers_in_all"]) == (20, 30)


def test_the_rate_of_more_rows_than_are_fetched_is_that_of_the_time_they_span(tmp_path: Path) -> None:
    ledger = filled(tmp_path, [4 - number * 0.002 for number in range(2 * NEWEST)])
    with ledger.reading() as connection:
        told = facts(newest(connection))
    ledger.close()
    assert told["rows"] == NEWEST
    assert 400 < told["per_second"] < 510, "500 a second until now, when nothing more comes"


def test_percentiles_are_values_that_were_measured() -> None:
    now = time.time()
    rows = [EatenBaozi("r", "c", now - number, now) for number in range(1, 101)]
    told = facts(rows)["latency"]
    assert [round(told[name]) for name in ("p50", "p95", "p99", "max")] == [50, 95, 99, 100]
    empty = facts([])
    assert (empty["rows"], empty["per_second"], empty["latency"]["p50"]) == (0, 0, None)
