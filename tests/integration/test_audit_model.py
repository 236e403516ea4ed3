"""The audit beside a history that it cannot see: what the broker confirmed, by this test's own record.

The history is kept by asking the publisher itself, in the producer's process, what was confirmed; neither our
journal nor our ledger has a part in it.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from sqlalchemy import select

from baozi.ledger import Ledger
from baozi.ledger_schema import eaten
from baozi.model import Baozi, Closing
from baozi.process_group import StartedProcess
from tests.integration.place import Place
from tests.waiting import wait_until

#: A producer of ours that also writes each put and each confirmed baozi into a file of the test's.
_RECORDED = """
import os, sys
from baozi.amqp import publisher as confirmed
from baozi import task_publisher
file = os.open(sys.argv.pop(1), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
init, publish = confirmed.ConfirmedPublisher.__init__, task_publisher.TaskMessage.publish
def note(what, messages):
    lines = [f"{what} {m.baozi.number} {m.baozi.made_at!r}\\n" for m in messages if m.baozi]
    os.write(file, "".join(lines).encode())
def recorded_publish(message, channel):
    note("put", [message])
    publish(message, channel)
def recorded_init(self, open_channel, on_confirmed, *more, **options):
    def told(messages):
        note("confirmed", messages)
        on_confirmed(messages)
    init(self, open_channel, told, *more, **options)
confirmed.ConfirmedPublisher.__init__ = recorded_init
task_publisher.TaskMessage.publish = recorded_publish
import runpy
runpy.run_module("producers", run_name="__main__", alter_sys=True)
"""


@dataclass
class Machine:
    """A machine of producers: its BAOZI_HOME, and the test's record of what each got confirmed."""

    place: Place
    home: Path
    histories: dict[str, Path] = field(default_factory=dict)

    def start(self, name: str, *arguments: str, **settings: object) -> "subprocess.Popen[str]":
        history = self.histories.setdefault(name, self.home / f"{name}.history")
        self.home.mkdir(exist_ok=True)
        order = ["--run", "r", "--name", name, "--json", *arguments]
        return subprocess.Popen(
            [sys.executable, "-c", _RECORDED, str(history), *order],
            env={**os.environ, **self.place.environment(home=self.home, **settings)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def produce(self, name: str, count: int, *more: str) -> None:
        producer = self.start(name, "--count", str(count), *more)
        _, err = producer.communicate(timeout=60)
        assert producer.returncode == 0, err

    def kill_at_work(self, name: str, *more: str) -> None:
        """Have a producer that never ends put some, then ``kill -9`` it."""
        producer = self.start(name, "--count", "0", "--interval", "0.005", *more)
        before = len(self.confirmed(name))
        wait_until(lambda: len(self.confirmed(name)) > before + 5, "the producer to be at work", 60)
        producer.kill()
        producer.communicate(timeout=20)

    def confirmed(self, name: str) -> set[int]:
        return set(self.record("confirmed", name))

    def record(self, what: str, name: str) -> dict[int, set[float]]:
        """When each number was made, by each "put" of it, or by each that was "confirmed"."""
        made: dict[int, set[float]] = defaultdict(set)
        path = self.histories.get(name)
        for line in path.read_text().split("\n")[:-1] if path and path.exists() else ():
            event, number, at = line.split()
            if event == what:
                made[int(number)].add(float(at))
        return made


def audit(place: Place, *more: str, **settings: object) -> tuple[int, dict[str, Any]]:
    done = place.run("audit", "r", "--json", *more, **settings)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, json.loads(done.stdout)


def purge(place: Place) -> None:
    place.node.api("DELETE", f"queues/{place.virtual_host}/baozi/contents")
    wait_until(lambda: place.waiting() == 0, "the queue to be empty")


def stop(worker: StartedProcess) -> None:
    worker.process.terminate()
    wait_until(lambda: worker.process.poll() is not None, "the worker to stop", 60)


@pytest.fixture
def here(private_place: Place) -> Machine:
    return Machine(private_place, private_place.home)


@pytest.fixture
def there(private_place: Place, tmp_path: Path) -> Machine:
    return Machine(private_place, tmp_path / "there")


@pytest.mark.parametrize("known", ["the journal is here", "the worker ate the opening", "--journals"])
def test_an_order_that_was_closed_and_goes_on_is_open(here: Machine, there: Machine, known: str) -> None:
    place = here.place
    machine = here if known == "the journal is here" else there
    worker = place.worker("小明")
    machine.produce("alex", 10)
    assert audit(place, "--wait", "30")[0] == 0
    if known != "the worker ate the opening":
        stop(worker)
    machine.kill_at_work("alex", "--resume")
    purge(place)
    more = ["--journals", str(there.home)] if known == "--journals" else []
    code, sums = audit(place, *more)
    assert code == 1
    assert (sums["total"]["accepted"], sums["producers"][0]["accepted"]) == (None, None)
    assert any("Not closed: the order of alex" in problem for problem in sums["problems"])
    if known != "the worker ate the opening":
        assert sums["total"]["lost"] == len(machine.confirmed("alex")) - 10


def test_an_audit_waits_for_a_producer_that_goes_on_with_a_closed_order(here: Machine) -> None:
    place = here.place
    place.worker("小明")
    here.produce("alex", 5)
    assert audit(place, "--wait", "30")[0] == 0
    producer = here.start("alex", "--resume", "--count", "60", "--interval", "0.05")
    journal = place.home / "runs" / "r" / "alex.journal"
    wait_until(lambda: journal.read_text().count(" opened ") == 2, "the order to be opened again")
    code, sums = audit(place, "--wait", "50")
    assert (code, sums["total"]["accepted"], sums["total"]["eaten"]) == (0, 60, 60)
    _, err = producer.communicate(timeout=60)
    assert producer.returncode == 0, err


@pytest.mark.parametrize(("first", "second", "more"), [(100, 50, ()), (3, 7, ()), (40, 40, ("--tray", "8"))])
@pytest.mark.parametrize("tray", [1, 100])
def test_one_name_on_two_machines_is_no_duplicate(
    here: Machine, there: Machine, first: int, second: int, more: tuple[str, ...], tray: int
) -> None:
    place = here.place
    place.worker("小明", tray=tray)
    here.produce("alex", first)
    wait_until(lambda: place.eaten("r") == first, "the first to be eaten")
    there.produce("alex", second, *more)
    code, sums = audit(place, "--wait", "30")
    total = sums["total"]
    both = min(first, second)
    # Of a tray that overlaps, none is eaten.
    lost = second if more else both
    assert (code, total["accepted"], total["lost"], total["duplicated"]) == (1, first + second, lost, 0)
    assert (total["eaten"], total["dead"]) == (first + second - lost, lost)
    assert total["refused"] == both
    assert sums["shared_names"] == ["alex"]
    letter = place.run("dead", "list", "--json").stdout.splitlines()[0]
    assert "NameInUse" in letter
    assert "a different name" in letter


def test_messages_that_vanish_before_any_is_eaten_are_lost_by_the_journal(
    here: Machine, there: Machine
) -> None:
    place = here.place
    place.worker("小明")
    here.produce("peiqi", 3)
    wait_until(lambda: place.eaten("r") == 3, "peiqi's to be eaten")
    for worker in place.process_group.processes:
        if worker.role == "worker":
            stop(worker)
    for machine, name in ((here, "alex"), (there, "egon")):
        machine.kill_at_work(name)
    purge(place)
    code, sums = audit(place)
    assert (code, sums["total"]["lost"]) == (1, len(here.confirmed("alex")))
    code, sums = audit(place, "--journals", str(there.home))
    assert (code, sums["total"]["lost"]) == (1, len(here.confirmed("alex")) + len(there.confirmed("egon")))


def test_a_producer_that_is_named_and_unknown_is_absent(here: Machine) -> None:
    place = here.place
    place.worker("小明")
    here.produce("alex", 3)
    assert audit(place, "--wait", "30")[0] == 0
    for more, says in (
        (["--orders", "2"], "Producers with an order: 1, expected: 2."),
        (["--producer", "egon"], "Nothing is known of egon."),
        (["--producer", "alex", "--producer", "小红"], "Nothing is known of 小红."),
    ):
        code, sums = audit(place, *more)
        assert (code, sums["problems"]) == (1, [says])
    assert audit(place, "--producer", "alex", "--orders", "1")[0] == 0


def test_a_folder_without_a_journal_of_the_run_is_an_error(private_place: Place, tmp_path: Path) -> None:
    done = private_place.run("audit", "r", "--journals", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "There is no journal of run r" in done.stderr


@pytest.mark.parametrize(("accepted", "attempted"), [(0, 0), (0, 5), (2**63 - 1, 2**63 - 1), (3, 2**63 - 1)])
def test_a_closing_message_closes_only_its_own_order(here: Machine, accepted: int, attempted: int) -> None:
    place = here.place
    worker = place.worker("小明")
    stop(worker)
    here.produce("alex", 8)
    purge(place)
    place.worker("小红")
    forged = Closing(run="r", producer="alex", accepted=accepted, attempted=attempted, closed_at=1.0)
    with place.producer() as producer:
        place.send_eat(producer, forged.argument, task="tasks.close_order")
    code, sums = audit(place, "--wait", "3")
    assert code == 1
    assert sums["total"]["lost"] >= 8


def test_a_ledger_from_before_the_order_was_closed_does_not_prove_it(here: Machine) -> None:
    place = here.place
    worker = place.worker("小明")
    here.produce("alex", 5)
    assert audit(place, "--wait", "30")[0] == 0
    stop(worker)
    backup = {path: path.read_bytes() for path in place.home.glob("ledger.sqlite3*")}
    worker = place.worker("小明")
    here.produce("alex", 9, "--resume")
    here.produce("egon", 2)
    assert audit(place, "--wait", "30")[0] == 0
    stop(worker)
    for path in place.home.glob("ledger.sqlite3*"):
        path.unlink()
    for path, content in backup.items():
        path.write_bytes(content)
    code, sums = audit(place)
    assert (code, sums["untold"], sums["total"]["lost"]) == (1, ["alex", "egon"], 6)


def test_a_broker_that_is_away_is_the_reason_why_dead_is_unknown(here: Machine) -> None:
    place = here.place
    place.worker("小明")
    here.produce("alex", 3)
    assert audit(place, "--wait", "30")[0] == 0
    done = place.run("audit", "r", broker_url="amqp://a:b@127.0.0.1:1//", broker_timeout=2)
    assert done.returncode == 0, done.stdout
    assert "The dead letters are not known: The broker" in done.stdout
    with Connection(place.url, connect_timeout=5) as connection:
        channel: Any = connection.channel()
        channel.queue_delete("baozi.dead")
    done = place.run("audit", "r")
    assert done.returncode == 0, done.stderr
    assert "The dead letters are not known: The broker has no such exchange or queue" in done.stdout
    assert "3 accepted, 3 eaten, 0 lost" in done.stdout


def scenario(seed: int) -> Callable[[Machine, Machine], None]:
    """A random history: orders, resumes, kills and purges, on two machines that may use one name."""
    chance = random.Random(seed)

    def play(here: Machine, there: Machine) -> None:
        place = here.place
        workers = [place.worker("小明", tray=chance.choice([1, 10]))]
        for _ in range(chance.randint(3, 6)):
            machine, name = chance.choice([here, there]), chance.choice(["alex", "egon", "peiqi"])
            resume = ["--resume"] if name in machine.histories else []
            match chance.choice(["produce", "produce", "kill producer", "kill worker", "purge"]):
                case "produce":
                    machine.produce(name, len(machine.confirmed(name)) + chance.randint(1, 30), *resume)
                case "kill producer":
                    machine.kill_at_work(name, *resume)
                case "kill worker":
                    os.killpg(workers[-1].process.pid, signal.SIGKILL)
                    workers[-1].process.wait(30)
                    workers.append(place.worker(f"w{len(workers)}", tray=chance.choice([1, 10])))
                case "purge":
                    purge(place)
        # Most producers that were killed go on once more, and end.
        for machine in (here, there):
            for name in machine.histories:
                if chance.random() < 0.8:
                    machine.produce(name, len(machine.confirmed(name)) + 1, "--resume")

    return play


@pytest.mark.parametrize("seed", range(6))
def test_the_audit_agrees_with_a_history_that_it_cannot_see(seed: int, here: Machine, there: Machine) -> None:
    place = here.place
    scenario(seed)(here, there)
    wait_until(lambda: place.waiting() == 0, "all to be delivered", 60)
    for worker in [
        it for it in place.process_group.processes if it.role == "worker" and it.process.poll() is None
    ]:
        stop(worker)
    more = ["--journals", str(there.home)] if there.histories else []
    code, sums = audit(place, *more)
    missing = list(_missing(place, here)) + list(_missing(place, there))
    if missing:
        assert code == 1, (missing, sums)
    # Both journals are there, so that the audit knows of each that was confirmed.
    assert sums["total"]["lost"] == len(missing), (missing, sums)
    if code == 1 and not missing:
        # Nothing was lost, but an order is open, its end vanished, or its name is another's too.
        assert sums["problems"], sums
        unproven = {one["producer"] for one in sums["producers"] if one["accepted"] is None}
        assert unproven or sums["shared_names"] or sums["untold"], sums


def _missing(place: Place, machine: Machine) -> Iterator[Baozi]:
    """What was confirmed and not eaten: a baozi is known by its number and by when it was made."""
    ledger = Ledger(place.ledger_url)
    with ledger.reading() as connection:
        rows = connection.execute(select(eaten.c.producer, eaten.c.number, eaten.c.made_at)).all()
    ledger.close()
    there = {(row.producer, row.number): row.made_at for row in rows}
    for name in machine.histories:
        # Put again under its number by the same order, it is the same baozi, whichever of its puts was eaten.
        puts = machine.record("put", name)
        for number in machine.confirmed(name):
            if there.get((name, number)) not in puts[number]:
                yield Baozi(run="r", producer=name, number=number, made_at=min(puts[number]))
