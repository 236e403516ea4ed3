"""Real workers on an SQLite ledger that another machine uses, as far as this machine can tell."""

from pathlib import Path
from threading import Event, Thread

from baozi.errors import ExitCode
from baozi.one_machine import BOOT_ID
from tests.integration.place import Place
from tests.integration.test_worker_start import start
from tests.waiting import wait_until

ANOTHER = "22222222-2222-2222-2222-222222222222"


def file_of(place: Place) -> Path:
    return place.home / "ledger.sqlite3-machine"


def note(place: Place, number: int) -> None:
    """Write what a worker of another machine writes."""
    file_of(place).write_text(f"{ANOTHER} {number:020}\n")


def test_a_worker_does_not_start_while_another_machine_uses_its_ledger(private_place: Place) -> None:
    ended = Event()
    note(private_place, 0)

    def renew() -> None:
        number = 0
        while not ended.wait(1):
            note(private_place, number := number + 1)

    thread = Thread(target=renew)
    thread.start()
    try:
        done = start(private_place)
    finally:
        ended.set()
        thread.join()
    assert done.returncode == ExitCode.NO_LEDGER, done.stderr
    waiting, refused = done.stderr.splitlines()
    assert "Waiting 15 s" in waiting
    assert "Another machine uses the ledger" in refused
    assert file_of(private_place).read_text().startswith(ANOTHER)
    assert private_place.consumers() == 0


def test_a_worker_that_starts_after_its_machine_takes_the_ledger_and_eats(private_place: Place) -> None:
    note(private_place, 7)
    private_place.produce("r", "alex", 3)
    worker = private_place.worker("小明")
    assert "Waiting 15 s" in worker.log.read_text()
    assert file_of(private_place).read_text().startswith(BOOT_ID.read_text().strip())
    second = private_place.worker("小红")
    assert "Waiting" not in second.log.read_text()
    done = private_place.run("audit", "r", "--wait", "30")
    assert done.returncode == 0, done.stderr


def test_a_worker_keeps_its_use_known_and_ends_if_another_machine_took_over(private_place: Place) -> None:
    workers = [private_place.worker(name) for name in ("小明", "小红")]
    before = file_of(private_place).read_text()
    wait_until(lambda: file_of(private_place).read_text() != before, "the number to change", timeout=30)
    private_place.node.close_connections(private_place.virtual_host)
    wait_until(lambda: private_place.consumers() == 2, "both to be back", timeout=60)
    before = file_of(private_place).read_text()
    wait_until(lambda: file_of(private_place).read_text() != before, "it to change again", timeout=30)

    def ended() -> bool:
        # Again and again: a worker that has just looked at the file writes once more.
        note(private_place, 1)
        return all(worker.process.poll() is not None for worker in workers)

    wait_until(ended, "both to end", timeout=60)
    for worker in workers:
        assert worker.process.returncode == ExitCode.NO_LEDGER
        assert "Another machine uses the ledger" in worker.log.read_text()
    assert file_of(private_place).read_text() == f"{ANOTHER} {1:020}\n"
