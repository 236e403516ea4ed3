"""An SQLite ledger is used by one machine at a time. The kernel's id is made up here, and time passes faster.

A lock of another kernel is not to be seen. So here the other machine has no lock on the file, and changes the
number in it.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX
from pathlib import Path
from threading import Event, Thread

import pytest

from baozi import one_machine
from baozi.errors import AnotherMachine, ExitCode, LedgerAway
from baozi.one_machine import BOOT_ID, Use
from tests.waiting import wait_until

OURS, THEIRS = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger, on a machine that is ours."""
    be(OURS, tmp_path, monkeypatch)
    monkeypatch.setattr(one_machine, "OBSERVED", 1.0)
    monkeypatch.setattr(one_machine, "_POLL_EVERY", 0.02)
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def using() -> Iterator[Callable[[Path], Use]]:
    """Begin uses that end with the test."""
    begun = []

    def begin(ledger: Path) -> Use:
        begun.append(Use(ledger))
        begun[-1].begin()
        return begun[-1]

    yield begin
    for use in begun:
        use.end()


def be(machine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "boot_id").write_text(f"{machine}\n")
    monkeypatch.setattr(one_machine, "BOOT_ID", folder / "boot_id")


def file_of(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}-machine")


def note(ledger: Path, machine: str, number: int) -> None:
    file_of(ledger).write_text(f"{machine} {number:020}\n")


def noted(ledger: Path) -> list[str]:
    return file_of(ledger).read_text().split()


@contextmanager
def another_machine(ledger: Path) -> Iterator[None]:
    """Within this block another one renews its use."""
    ended = Event()

    def renew() -> None:
        number = 0
        while not ended.wait(0.05):
            note(ledger, THEIRS, number := number + 1)

    note(ledger, THEIRS, 0)
    thread = Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_the_first_worker_notes_its_machine_and_says_nothing(
    ledger: Path, using: Callable[[Path], Use], capsys: pytest.CaptureFixture[str]
) -> None:
    using(ledger)
    assert noted(ledger)[0] == OURS
    assert capsys.readouterr() == ("", "")


def test_another_machine_that_uses_the_ledger_is_one_sentence(
    ledger: Path, using: Callable[[Path], Use], capsys: pytest.CaptureFixture[str]
) -> None:
    with another_machine(ledger), pytest.raises(AnotherMachine, match="one machine only") as caught:
        using(ledger)
    assert caught.value.exit_code is ExitCode.NO_LEDGER
    assert noted(ledger)[0] == THEIRS
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_refused_worker_leaves_nothing_locked(ledger: Path, using: Callable[[Path], Use]) -> None:
    with another_machine(ledger):
        for _ in range(2):
            with pytest.raises(AnotherMachine):
                using(ledger)
    using(ledger)
    assert noted(ledger)[0] == OURS


def test_a_machine_that_was_restarted_takes_the_ledger_after_observing_it(
    ledger: Path, using: Callable[[Path], Use], capsys: pytest.CaptureFixture[str]
) -> None:
    note(ledger, THEIRS, 7)
    using(ledger)
    assert noted(ledger)[0] == OURS
    assert "Waiting 1 s" in capsys.readouterr().err


def test_a_worker_of_the_same_machine_starts_at_once_whether_others_run_or_not(
    ledger: Path, using: Callable[[Path], Use], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        using(ledger).end()
    for _ in range(3):
        using(ledger)
    assert capsys.readouterr().err == ""


def test_containers_of_one_kernel_that_have_each_an_id_of_their_own_share_the_ledger(
    ledger: Path,
    using: Callable[[Path], Use],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = using(ledger)
    be(THEIRS, tmp_path, monkeypatch)
    second = using(ledger)
    for _ in range(2):
        first.renew()
        second.renew()
    first.end()
    be("33333333-3333-3333-3333-333333333333", tmp_path, monkeypatch)
    third = using(ledger)
    for use in (third, second):
        use.renew()
    assert noted(ledger)[0] == OURS
    assert capsys.readouterr().err == ""


def test_each_renewal_changes_the_number(ledger: Path, using: Callable[[Path], Use]) -> None:
    use = using(ledger)
    seen = {tuple(noted(ledger))}
    for _ in range(3):
        use.renew()
        seen.add(tuple(noted(ledger)))
    assert len(seen) == 4
    assert {machine for machine, _ in seen} == {OURS}


def test_a_worker_that_was_held_up_finds_that_another_machine_took_over(
    ledger: Path, using: Callable[[Path], Use]
) -> None:
    use = using(ledger)
    note(ledger, THEIRS, 1)
    with pytest.raises(AnotherMachine):
        use.renew()
    assert noted(ledger) == [THEIRS, "1".zfill(20)]


def test_a_file_that_was_deleted_is_no_other_machine(ledger: Path, using: Callable[[Path], Use]) -> None:
    use = using(ledger)
    file_of(ledger).unlink()
    use.renew()
    using(ledger)
    assert noted(ledger)[0] == OURS


@pytest.mark.parametrize("content", ["", "\n", "garbage", "\x00\xff"])
def test_a_damaged_file_keeps_no_worker_from_its_ledger(
    ledger: Path, using: Callable[[Path], Use], content: str
) -> None:
    file_of(ledger).write_text(content)
    using(ledger)
    assert noted(ledger)[0] == OURS


def test_a_system_without_such_an_id_is_not_checked(
    ledger: Path, using: Callable[[Path], Use], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(one_machine, "BOOT_ID", tmp_path / "not there")
    using(ledger).renew()
    assert not file_of(ledger).exists()


def test_a_file_that_cannot_be_written_is_reported_and_the_worker_starts(
    ledger: Path, using: Callable[[Path], Use], capsys: pytest.CaptureFixture[str]
) -> None:
    file_of(ledger).mkdir()
    using(ledger).renew()
    assert "not known whether another machine uses the ledger" in capsys.readouterr().err


def test_a_worker_that_observes_has_the_others_of_its_machine_wait_and_no_longer_than_a_minute(
    ledger: Path, using: Callable[[Path], Use], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Use(ledger)._gate():
        monkeypatch.setattr(one_machine, "_GATE_TIMEOUT", 0.1)
        with pytest.raises(LedgerAway, match=r"Waited 0\.1 s for another worker"):
            using(ledger)
    using(ledger)


PROGRAM = """
import sys, time
from pathlib import Path
from baozi import one_machine
one_machine.BOOT_ID = Path(sys.argv[2])
one_machine.OBSERVED = 2.0
one_machine.use(Path(sys.argv[1]))
print("uses", flush=True)
time.sleep(600)
"""


def test_of_many_processes_that_start_after_a_reboot_one_observes_and_all_use_the_ledger(
    ledger: Path, tmp_path: Path
) -> None:
    note(ledger, THEIRS, 3)
    command = [sys.executable, "-c", PROGRAM, str(ledger), str(tmp_path / "boot_id")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "uses\n"
    finally:
        for process in processes:
            process.kill()
    said = "".join(process.communicate()[1] for process in processes)
    assert said.count("Waiting 2 s") == 1
    assert noted(ledger)[0] == OURS


def test_a_process_that_is_killed_leaves_no_lock(
    ledger: Path, using: Callable[[Path], Use], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(ledger), str(tmp_path / "boot_id")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "uses\n"
        handle = os.open(file_of(ledger), os.O_RDWR)
        assert not one_machine._is_locked(handle, LOCK_EX)
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: one_machine._is_locked(handle, LOCK_EX), "the lock to be free")
    os.close(handle)
    be(THEIRS, tmp_path, monkeypatch)
    using(ledger)
    assert noted(ledger)[0] == THEIRS


def test_this_machine_has_such_an_id() -> None:
    assert len(BOOT_ID.read_text().strip()) == len(OURS)
