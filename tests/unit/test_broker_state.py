import multiprocessing
import subprocess
import sys
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
import pytest

from baozi.broker.failure import port_taken, reason
from baozi.broker.processes import MARK, end, is_alive, marked, spawn, wait_until
from baozi.broker.readiness import check_broker_answers
from baozi.broker.state import Folder, Record
from baozi.errors import BrokerAway, BrokerError, UsageError

RECORD = Record(kind="private", mark="m", url="amqp://u:secret@h//", management_url="", node="n", why="w")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "home" / "broker")
    with folder.lock():
        return folder


def test_a_record_is_read_as_it_was_kept(folder: Folder) -> None:
    assert folder.record() is None
    folder.keep(RECORD)
    assert folder.record() == RECORD
    folder.forget()
    assert folder.record() is None


def test_only_the_owner_can_read_what_is_kept(folder: Folder) -> None:
    folder.keep(RECORD)
    folder.identity()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.path.iterdir())


def test_the_password_is_in_no_repr(folder: Folder) -> None:
    assert "secret" not in repr(RECORD)
    assert folder.identity().password not in repr(folder.identity())


def test_a_system_on_which_no_broker_can_be_started_is_reported_in_one_sentence(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    says = r"^A broker can be started only on Linux and macOS\. Set BAOZI_BROKER_URL\.$"
    with pytest.raises(BrokerError, match=says), folder.lock():
        pass


def test_a_damaged_record_counts_as_no_record(folder: Folder) -> None:
    folder.write("broker.json", "{")
    assert folder.record() is None


def test_an_identity_stays_and_is_unlike_anothers(folder: Folder, tmp_path: Path) -> None:
    other = Folder(tmp_path / "other")
    with other.lock():
        assert folder.identity() == folder.identity() != other.identity()
    assert len(folder.identity().password) >= 32


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with (
        pytest.raises(BrokerError, match="cannot be used: Not a directory"),
        Folder(tmp_path / "home/b").lock(),
    ):
        pass


def _hold(path: Path, held: Event, let_go: Event) -> None:
    with Folder(path).lock():
        held.set()
        let_go.wait(30)


def test_a_second_command_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, held, let_go))
    first.start()
    try:
        assert held.wait(30), "the first command never got the lock"
        monkeypatch.setattr("baozi.broker.state._LOCK_DEADLINE", 0.3)
        with pytest.raises(BrokerError, match="Another command"), Folder(tmp_path).lock():
            pass
    finally:
        let_go.set()
        first.join(30)
    with Folder(tmp_path).lock():
        pass


def test_a_reused_process_id_is_not_taken_for_the_broker() -> None:
    bystander = subprocess.Popen(["sleep", "60"], env={MARK: "another"})
    try:
        assert not is_alive(bystander.pid, "m")
        assert not end("m", bystander.pid, 1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait(10)
    assert not is_alive(bystander.pid, "another")


def test_a_marked_process_is_ended_with_all_its_descendants(tmp_path: Path) -> None:
    # The grandchild has a session of its own and ignores SIGTERM, and its parent does not wait for it.
    grandchild = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(99)"
    )
    script = (
        "import subprocess, sys, time;"
        f"p = subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True,"
        " stdout=subprocess.PIPE); p.stdout.readline(); print('both', flush=True); time.sleep(99)"
    )
    child = spawn([sys.executable, "-c", script], {MARK: "family"}, tmp_path, "log")
    assert wait_until(lambda: "both" in (tmp_path / "log").read_text(), 20), "the grandchild never started"
    assert len(marked("family")) == 2
    assert is_alive(child.pid, "family")
    assert end("family", child.pid, 5)
    assert marked("family") == []
    assert not psutil.pid_exists(child.pid), "the child is left as a zombie"
    assert not end("family", child.pid, 5)


def test_an_unavailable_broker_is_reported_without_the_password() -> None:
    with pytest.raises(BrokerAway, match=r"amqp://u:\*\*\*@127\.0\.0\.1:1//"):
        check_broker_answers("amqp://u:secret@127.0.0.1:1//", 1)
    with pytest.raises(UsageError, match="port is not a number"):
        check_broker_answers("amqp://u:secret@h:port//", 1)
    assert check_broker_answers("memory://", 1) is None


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", "it said nothing"),
        ("one\ntwo\n\n", "two"),
        (
            "2026-01-02 03:04:05.6+00:00 [info] <0.1.0> fine\n"
            "2026-01-02 03:04:05.6+00:00 [error] <0.1.0> \n"
            "2026-01-02 03:04:05.6+00:00 [error] <0.1.0> BOOT FAILED\n"
            "2026-01-02 03:04:05.6+00:00 [error] <0.1.0> ===========\n"
            "2026-01-02 03:04:05.6+00:00 [error] <0.1.0> There is no such setting.\n"
            "2026-01-02 03:04:05.6+00:00 [error] <0.1.0> Did you mean another?\n",
            "There is no such setting",
        ),
        ("BOOT FAILED\n===========\nError during startup: {error,\n      {no,room}}\n\nmore", None),
    ],
)
def test_the_logs_first_error_is_the_reason(log: str, told: str | None) -> None:
    assert reason(log) == (told or "Error during startup: {error, {no,room}}")
    assert not port_taken(log)


def test_a_long_reason_is_cut() -> None:
    assert len(reason("error: " + "x" * 5000)) == 300


def test_a_taken_port_is_known_by_either_of_its_names() -> None:
    assert port_taken("[error] reason: {listen_error,{acceptor,{127,0,0,1},41663},eaddrinuse}")
    assert port_taken("ERROR: could not bind to distribution port 41381 on host localhost.")
