"""A queue belongs to one ledger: a worker with another one is told so, and eats nothing."""

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from baozi.errors import ExitCode
from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from side_by_side.crew import Crew
from tests.integration.place import Place
from tests.integration.rabbitmq import Node
from tests.integration.test_worker_start import start
from tests.waiting import wait_until


def other_ledger(place: Place, name: str = "another machine") -> str:
    return file_url(place.home / name / "ledger.sqlite3").render_as_string()


def identity(url: str) -> str:
    with closing(Ledger(url)) as ledger:
        return ledger.identity()


def test_two_machines_with_ledgers_of_their_own_are_found_when_the_second_worker_starts(place: Place) -> None:
    place.worker("小明")
    done = start(place, "-n", "小红@b", ledger_url=other_ledger(place))
    assert (done.returncode, len(done.stderr.splitlines())) == (ExitCode.NO_LEDGER, 1), done.stderr
    for part in (identity(place.ledger_url), "baozi ledger version", "baozi ledger adopt"):
        assert part in done.stderr
    assert identity(other_ledger(place)) in done.stderr
    place.produce("r", "alex", 5)
    assert place.run("audit", "r", "--wait", "30").returncode == 0


def test_a_worker_of_the_same_ledger_starts_again_and_again(place: Place) -> None:
    for _ in range(3):
        worker = place.worker("小明")
        worker.process.terminate()
        worker.process.wait(30)
        assert "ledger" not in worker.log.read_text()


def test_of_workers_that_start_together_with_ledgers_of_their_own_one_stays(place: Place) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "celery", "--quiet", "-A", "tasks", "worker", "-c", "1"]
    workers = [
        subprocess.Popen(
            [*command, "-n", f"w{number}@%h"],
            env={**os.environ, **place.environment(ledger_url=other_ledger(place, str(number)))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    try:
        wait_until(lambda: sum(it.poll() is not None for it in workers) == 3, "three to end", timeout=90)
        ended = [it for it in workers if it.poll() is not None]
        assert [it.returncode for it in ended] == [ExitCode.NO_LEDGER] * 3
        wait_until(lambda: place.consumers() == 1, "the one that stays to work", timeout=60)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_many_workers_of_one_ledger_start_together(place: Place) -> None:
    program = (
        "from contextlib import closing;from baozi.ledger import Ledger;from baozi import belonging;"
        "from baozi.settings import settings;from baozi.topology import Topology\n"
        "with closing(Ledger(settings().ledger).open()) as ledger: own = ledger.identity()\n"
        "for _ in range(5): belonging.see_that_it_is_ours(Topology.of(settings()), own)"
    )
    place.produce("r", "alex", 1)
    looking = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, **place.environment()},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for one in looking:
        assert one.communicate(timeout=120)[1] == ""
        assert one.returncode == 0


def test_a_ledger_that_is_gone_for_good_is_replaced_on_command(place: Place) -> None:
    worker = place.worker("小明")
    worker.process.terminate()
    worker.process.wait(30)
    url = other_ledger(place)
    refused = start(place, ledger_url=url)
    assert refused.returncode == ExitCode.NO_LEDGER
    adopted = json.loads(place.run("ledger", "adopt", "--json", ledger_url=url).stdout)
    assert adopted["id"] == identity(url)
    assert identity(place.ledger_url) in adopted["before"]
    place.worker("小红", ledger_url=url)
    assert start(place).returncode == ExitCode.NO_LEDGER
    again = place.run("ledger", "adopt", ledger_url=url)
    assert (again.returncode, again.stdout.count(identity(url))) == (0, 2)


def test_a_worker_that_reconnects_to_a_queue_of_another_ledger_ends(private_place: Place) -> None:
    worker = private_place.worker("小明")
    url = other_ledger(private_place)
    assert private_place.run("ledger", "upgrade", ledger_url=url).returncode == 0
    assert private_place.run("ledger", "adopt", ledger_url=url).returncode == 0
    private_place.node.close_connections(private_place.virtual_host)
    assert worker.process.wait(60) == ExitCode.NO_LEDGER
    assert "belongs to the ledger" in worker.log.read_text()


def test_a_worker_that_may_not_look_says_so_and_eats(private_place: Place) -> None:
    private_place.produce("r", "alex", 3)
    celery = r"(celeryev(\..+)?|(.+\.)?(reply\.)?celery\.pidbox|celery_delayed_.+)"
    user = f"worker-{time.time_ns()}"
    url = private_place.node.make_user(
        user,
        private_place.virtual_host,
        configure=f"^{celery}$",
        write=rf"^(baozi|baozi\.dead|{celery})$",
        read=f"^(baozi|{celery})$",
    )
    worker = private_place.worker("小明", broker_url=url)
    assert private_place.run("audit", "r", "--wait", "30").returncode == 0
    assert "not known to which ledger the queue belongs" in worker.log.read_text()


def test_a_virtual_host_with_a_long_name_hides_the_owner_and_not_that_it_is_another(
    private: Node, tmp_path: Path
) -> None:
    name = "v" * 150
    with Crew(tmp_path / "logs") as crew:
        place = Place(private, name, tmp_path, crew)
        try:
            place.worker("小明")
            done = start(place, "-n", "小红@b", ledger_url=other_ledger(place))
            assert done.returncode == ExitCode.NO_LEDGER
            assert "belongs to the ledger unknown" in done.stderr
        finally:
            crew.stop()
            private.delete_virtual_host(name)


def test_a_ledger_s_copy_is_the_same_ledger(private_place: Place, tmp_path: Path) -> None:
    worker = private_place.worker("小明")
    worker.process.terminate()
    worker.process.wait(30)
    copy = tmp_path / "copy" / "ledger.sqlite3"
    copy.parent.mkdir()
    copy.write_bytes((private_place.home / "ledger.sqlite3").read_bytes())
    private_place.worker("小红", ledger_url=file_url(copy).render_as_string())
