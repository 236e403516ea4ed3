"""`baozi prove` on an app that loses, on real workers and a real broker."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from baozi.broker.processes import MARK
from tests.integration.rabbitmq import Node
from tests.running import run
from tests.waiting import wait_until

#: Somebody's app, without any settings. Its task books an order in a database.
APP = """
import sqlite3, time
from celery import Celery
app = Celery("bakery", broker="amqp://guest:guest@localhost:1//")
database = {database!r}
@app.task(name="bakery.book")
def book(number):
    with sqlite3.connect(database, timeout=30) as connection:
        connection.execute("insert into booked values (?)", (number,))
    time.sleep(0.3)
@app.task(name="bakery.fail")
def fail():
    raise ValueError("no flour")
"""
FAULTS = "kill-pool-child,kill-producer"
#: Seconds that one command may take. On two quiet cores it takes 40.
_LONGEST = 350
# The first test waits for the command.
pytestmark = pytest.mark.timeout(_LONGEST + 50)


class Bakery:
    """A folder with the app, in which the command is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "booked.sqlite3"
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("create table booked (number)")
        (folder / "bakery.py").write_text(APP.format(database=str(self.database)))
        (folder / "args.jsonl").write_text("[1]\n" + '{"number": 2}\n')

    def prove(
        self, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "baozi", "prove", "-A", "bakery", *arguments]
        return run(command, _LONGEST, self.folder, {**os.environ, **(variables or {})})


def on(node: Node) -> list[str]:
    return ["--broker", node.url, "--management", node.management_url, "--i-own-this-broker"]


@pytest.fixture(scope="module")
def bakery(tmp_path_factory: pytest.TempPathFactory) -> Bakery:
    return Bakery(tmp_path_factory.mktemp("bakery"))


@pytest.fixture(scope="module")
def found(private: Node, bakery: Bakery) -> Mapping[str, Any]:
    """What one command printed, with its exit code."""
    effect = ["--effect-sql", "select count(*) from booked", "--effect-db", f"sqlite:///{bakery.database}"]
    task = ["--task", "bakery.book", "--args", "args.jsonl", "--yes"]
    done = bakery.prove(
        *task, *effect, *on(private), "--faults", FAULTS, "--calls", "12", "--seed", "3", "--with-fixes",
        "--out", "proof", "--json",
    )  # fmt: skip  # two options a line
    assert done.returncode == 1, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def tried(found: Mapping[str, Any], settings: str, fault: str) -> Mapping[str, Any]:
    (one,) = [it for it in found[settings]["tries"] if it["fault"] == fault]
    result: Mapping[str, Any] = one
    return result


def test_an_app_with_celerys_defaults_loses_what_a_killed_pool_process_executes(
    found: Mapping[str, Any],
) -> None:
    lost = tried(found, "as_it_is", "kill-pool-child")
    assert (lost["judgement"], lost["lost"], lost["explained_by"]) == ("loses", 1, ["BZ101"])
    assert lost["succeeded"] == lost["accepted"] - 1 == 11
    assert "BZ101" in found["findings"]


def test_the_same_app_loses_nothing_with_the_advised_settings(found: Mapping[str, Any]) -> None:
    kept = tried(found, "with_fixes", "kill-pool-child")
    assert (kept["judgement"], kept["succeeded"], kept["lost"]) == ("sound", 12, 0)
    assert kept["started_again"] == 1
    assert found["changed"]["task_acks_late"] is True


def test_without_a_fault_nothing_is_lost_and_the_users_rows_are_counted(found: Mapping[str, Any]) -> None:
    calm = tried(found, "as_it_is", "no fault")
    assert (calm["judgement"], calm["accepted"], calm["succeeded"], calm["rows"]) == ("sound", 12, 12, 12)


def test_a_call_during_which_the_producer_is_killed_is_unknown_and_no_other_is_lost(
    found: Mapping[str, Any],
) -> None:
    one = tried(found, "as_it_is", "kill-producer")
    assert one["judgement"] == "sound"
    assert one["accepted"] + one["unknown"] == 12


def test_the_folder_has_a_report_the_results_and_the_logs(found: Mapping[str, Any], bakery: Bakery) -> None:
    out = bakery.folder / "proof"
    assert json.loads((out / "results.json").read_text())["seed"] == found["seed"] == 3
    page = (out / "report.html").read_text()
    assert "The app loses" in page
    assert "With the advised settings" in page
    assert list(out.glob("as-it-is/*/logs/worker-1.log"))


def test_the_virtual_hosts_are_deleted_afterwards(found: Mapping[str, Any], private: Node) -> None:
    assert found
    assert not [it["name"] for it in private.api("GET", "vhosts") if it["name"].startswith("baozi-prove")]


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (["--task", "bakery.fail", "--yes"], {}, "Each call of bakery.fail fails .*: ValueError: no flour"),
        (["--worker", "celery -A bakery worker -P none"], {}, "The workers do not start: .* exit code 2"),
        (["--worker", "no-such-program"], {}, "The workers cannot be started: no-such-program: No such file"),
        ([], {"CELERY_RESULT_BACKEND": "redis://127.0.0.1:1"}, "The result backend .* does not answer"),
        ([], {"CELERY_BROKER_URL": "redis://127.0.0.1:1"}, "The app's broker is redis://"),
    ],
    ids=["a task that fails", "workers that do not start", "no program", "no backend", "another broker"],
)
def test_an_app_that_cannot_be_proven_is_reported_in_one_sentence(
    private: Node, bakery: Bakery, arguments: list[str], variables: dict[str, str], sentence: str
) -> None:
    done = bakery.prove(*arguments, *on(private), "--calls", "2", variables=variables)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert re.search(sentence, done.stderr.splitlines()[-1]), done.stderr


def test_ctrl_c_leaves_no_process_behind(bakery: Bakery) -> None:
    command = [sys.executable, "-m", "baozi", "prove", "-A", "bakery", "--faults", "cut", "--out", "stopped"]
    # A mark of this test, which all processes inherit; the broker's own mark is another.
    environment = {**os.environ, "PROVE_TEST": "ctrl-c"}
    with subprocess.Popen(
        command, cwd=bakery.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        started = wait_until(lambda: [*bakery.folder.glob("stopped/*/*/records/*.jsonl")], "a worker", 120)
        assert started
        ours = psutil.Process(process.pid).children(recursive=True)
        brokers = {mark for it in ours if (mark := it.environ().get(MARK))}
        assert brokers
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not [it for it in psutil.process_iter(["environ"]) if belongs(it, brokers)]


def belongs(process: psutil.Process, marks: set[str]) -> bool:
    environment = process.info["environ"] or {}
    return environment.get("PROVE_TEST") == "ctrl-c" or environment.get(MARK) in marks
