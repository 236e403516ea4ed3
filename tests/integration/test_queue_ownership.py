"""A queue belongs to one ledger and a ledger to one queue: a worker with another one is told so and ends."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from baozi.errors import ExitCode
from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from baozi.process_group import ProcessGroup
from tests.integration.place import Place
from tests.integration.rabbitmq import Node, queue_state
from tests.integration.test_worker_start import start
from tests.waiting import wait_until

pytest_plugins = ["tests.integration.postgresql"]


def other_ledger(place: Place, name: str = "another machine") -> str:
    return file_url(place.home / name / "ledger.sqlite3").render_as_string()


def identity(url: str) -> str:
    with closing(Ledger(url)) as ledger:
        return ledger.identity()


def queue_of(url: str) -> str | None:
    with closing(Ledger(url)) as ledger:
        return ledger.queue()


def start_together(place: Place, settings: Sequence[dict[str, str]]) -> list[subprocess.Popen[str]]:
    """Start a worker with each of these settings."""
    command = [sys.executable, "-W", "ignore", "-m", "celery", "--quiet", "-A", "tasks", "worker", "-c", "1"]
    return [
        subprocess.Popen(
            [*command, "-n", f"w{number}@%h"],
            env={**os.environ, **place.environment(**each)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, each in enumerate(settings)
    ]


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
    ledgers = [{"ledger_url": other_ledger(place, str(number))} for number in range(4)]
    workers = start_together(place, ledgers)
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
        "from contextlib import closing;from baozi.ledger import Ledger;from baozi import queue_ownership;"
        "from baozi.settings import settings;from baozi.topology import Topology\n"
        "with closing(Ledger(settings().ledger).open()) as ledger: own = ledger.identity()\n"
        "for _ in range(5): queue_ownership.check_queue_belongs_to_ledger(Topology.of(settings()), own)"
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


def test_adopt_gives_a_queue_a_new_ledger_if_its_ledger_is_lost(place: Place) -> None:
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


def test_a_worker_without_permission_to_check_the_owner_logs_it_and_works(private_place: Place) -> None:
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


def test_in_a_virtual_host_with_a_long_name_the_owner_is_unknown_but_still_refused(
    private: Node, tmp_path: Path
) -> None:
    name = "v" * 150
    with ProcessGroup(tmp_path / "logs") as process_group:
        place = Place(private, name, tmp_path, process_group)
        try:
            place.worker("小明")
            done = start(place, "-n", "小红@b", ledger_url=other_ledger(place))
            assert done.returncode == ExitCode.NO_LEDGER
            assert "belongs to the ledger unknown" in done.stderr
        finally:
            process_group.stop()
            private.delete_virtual_host(name)


def test_a_ledger_s_copy_is_the_same_ledger(private_place: Place, tmp_path: Path) -> None:
    worker = private_place.worker("小明")
    worker.process.terminate()
    worker.process.wait(30)
    copy = tmp_path / "copy" / "ledger.sqlite3"
    copy.parent.mkdir()
    copy.write_bytes((private_place.home / "ledger.sqlite3").read_bytes())
    private_place.worker("小红", ledger_url=file_url(copy).render_as_string())


def test_a_ledger_of_another_queue_is_refused_in_one_sentence(private_place: Place, ledger_url: str) -> None:
    worker = private_place.worker("小明", ledger_url=ledger_url)
    assert queue_of(ledger_url) == "baozi"
    done = start(private_place, ledger_url=ledger_url, queue="noodles")
    assert (done.returncode, len(done.stderr.splitlines())) == (ExitCode.NO_LEDGER, 1), done.stderr
    for part in (identity(ledger_url), "the queue baozi", "consumes noodles", "baozi ledger adopt"):
        assert part in done.stderr
    assert queue_of(ledger_url) == "baozi"
    assert worker.process.poll() is None
    # The refused worker has left no claim on its queue: it can have a ledger of its own at once.
    private_place.worker("小明 again", ledger_url=ledger_url)
    adopted = private_place.run("ledger", "adopt", "--json", ledger_url=other_ledger(private_place))
    assert adopted.returncode == ExitCode.NO_LEDGER, "that ledger does not exist"


def test_of_two_workers_that_start_together_on_an_empty_ledger_with_two_queues_one_stays(
    private_place: Place, ledger_url: str
) -> None:
    names = ["baozi", "noodles"]
    workers = start_together(private_place, [{"ledger_url": ledger_url, "queue": name} for name in names])
    try:
        wait_until(lambda: any(it.poll() is not None for it in workers), "one to end", timeout=90)
        owner = queue_of(ledger_url)
        stays = names.index(str(owner))
        ended = workers[1 - stays]
        assert ended.wait(30) == ExitCode.NO_LEDGER
        assert ended.stderr is not None
        assert f"belongs to the queue {owner}" in ended.stderr.read()
        url = private_place.url
        wait_until(lambda: queue_state(url, names[stays])[1] == 1, "the other to work", timeout=60)
        assert workers[stays].poll() is None
        assert queue_of(ledger_url) == owner
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_adopt_gives_a_ledger_a_new_queue_if_its_queue_is_deleted(
    private_place: Place, ledger_url: str
) -> None:
    with closing(Ledger(ledger_url).open()) as ledger:
        assert ledger.queue() is None
        none_yet = private_place.run("ledger", "version", ledger_url=ledger_url)
        assert "belongs to no queue yet" in none_yet.stdout
        assert ledger.claim("noodles") == "noodles"
    assert start(private_place, ledger_url=ledger_url).returncode == ExitCode.NO_LEDGER
    shown = private_place.run("ledger", "version", ledger_url=ledger_url)
    assert "It belongs to the queue noodles." in shown.stdout
    adopted = json.loads(private_place.run("ledger", "adopt", "--json", ledger_url=ledger_url).stdout)
    assert (adopted["queue_before"], adopted["queue"]) == ("noodles", "baozi")
    assert adopted["before"] is None
    said = json.loads(private_place.run("ledger", "version", "--json", ledger_url=ledger_url).stdout)
    assert said["queue"] == "baozi"
    private_place.produce("r", "alex", 3)
    private_place.worker("小明", ledger_url=ledger_url)
    done = private_place.run("audit", "r", "--wait", "30", ledger_url=ledger_url)
    assert done.returncode == 0, done.stderr
    again = start(private_place, ledger_url=ledger_url, queue="noodles")
    assert again.returncode == ExitCode.NO_LEDGER
    assert "belongs to the queue baozi" in again.stderr


def test_a_queue_s_name_in_another_virtual_host_is_the_same_queue(
    private: Node, private_place: Place, tmp_path: Path
) -> None:
    private_place.worker("小明")
    moved = Place(private, f"{private_place.virtual_host}-moved", tmp_path, private_place.process_group)
    try:
        moved.worker("小红")
    finally:
        private.delete_virtual_host(moved.virtual_host)
