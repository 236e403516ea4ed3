import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from baozi.journal import Entry, Event, Journal, WorkerJournal, read_journal
from tests.requirements import need

#: Writes on and on, and tells after each write which number is in the journal.
WRITER = """
import sys
from itertools import count
from pathlib import Path
from baozi.journal import Event, Journal
with Journal(Path(sys.argv[1])) as journal:
    for number in count():
        journal.write(Event.ACCEPTED, f"course/alex/{number}")
        print(number, flush=True)
"""

#: Writes until the file may grow no more; then room is made, and it goes on.
FILLER = """
import resource, sys
from itertools import count
from pathlib import Path
from baozi.journal import Event, Journal
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
with Journal(Path(sys.argv[1])) as journal:
    for number in count():
        try:
            journal.write(Event.ACCEPTED, f"course/alex/{number}")
        except OSError:
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for number in (number, number + 1):
        journal.write(Event.ACCEPTED, f"course/alex/{number}")
print(number)
"""


def ids(path: Path) -> list[str]:
    return [entry.baozi_id for entry in read_journal(path)]


def started(program: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)


def test_each_event_is_read_back_with_its_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "alex.journal"
    before = time.time()
    with Journal(path) as journal:
        for event in Event:
            journal.write(event, "course/alex/0")
    after = time.time()
    entries = list(read_journal(path))
    assert [(entry.event, entry.baozi_id) for entry in entries] == [
        (event, "course/alex/0") for event in Event
    ]
    # A journal's times have six places.
    assert before - 1e-5 <= entries[0].at <= entries[-1].at <= after + 1e-5


@pytest.mark.parametrize("baozi_id", ["课程/小红/0", "my run/an apple/12", " / /3", "a eaten b/1.5 x/7"])
def test_names_with_spaces_and_chinese_are_read_back(baozi_id: str, tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write(Event.EATEN, baozi_id)
    assert [(entry.event, entry.baozi_id) for entry in read_journal(tmp_path / "j")] == [
        (Event.EATEN, baozi_id)
    ]


def test_a_line_is_on_the_file_when_write_returns(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for number in range(3):
            journal.write(Event.EATEN, f"course/alex/{number}")
            assert len(ids(tmp_path / "j")) == number + 1, "nothing waits in a buffer"


@pytest.mark.parametrize("keep", range(1, 45))
def test_a_torn_last_line_is_left_out_wherever_it_is_torn(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.write(Event.ACCEPTED, "course/alex/11")
        whole = path.stat().st_size
        journal.write(Event.ACCEPTED, "course/alex/12")
    os.truncate(path, whole + min(keep, whole - 1))
    assert ids(path) == ["course/alex/11"]


@pytest.mark.parametrize("keep", range(1, 45))
def test_writing_after_an_incomplete_line_loses_nothing_and_does_not_complete_it(
    keep: int, tmp_path: Path
) -> None:
    # Torn after its 1, number 12 would be number 1 if it only got its newline.
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.write(Event.ACCEPTED, "course/alex/11")
        whole = path.stat().st_size
        journal.write(Event.ACCEPTED, "course/alex/12")
    os.truncate(path, whole + min(keep, whole - 1))
    for number in (13, 14):
        with Journal(path) as journal:
            journal.write(Event.ACCEPTED, f"course/alex/{number}")
    assert ids(path) == ["course/alex/11", "course/alex/13", "course/alex/14"]


def test_a_journal_that_is_opened_again_is_added_to(tmp_path: Path) -> None:
    for number in range(3):
        with Journal(tmp_path / "j") as journal:
            journal.write(Event.EATEN, f"course/alex/{number}")
    assert ids(tmp_path / "j") == ["course/alex/0", "course/alex/1", "course/alex/2"]
    assert b"\0" not in (tmp_path / "j").read_bytes()


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"x\n", b"1.0 eaten\n", b"1.0 burnt a/b/1\n", b"now eaten a/b/1\n", b"1.0 eaten \xff\n"],
)
def test_lines_that_are_none_are_left_out(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(line + b"1.5 eaten course/alex/1\n")
    assert list(read_journal(tmp_path / "j")) == [Entry(1.5, Event.EATEN, "course/alex/1")]


def test_a_journal_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_journal(tmp_path / "none"))


def test_only_its_owner_can_read_a_journal(tmp_path: Path) -> None:
    Journal(tmp_path / "j").close()
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0


def test_every_complete_line_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with started(WRITER, path) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(200)]
        assert writer.poll() is None, "killed at work"
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.readlines()
    written = ids(path)
    assert written == [f"course/alex/{number}" for number in range(len(written))]
    # What it told was written before; the last number may be torn from what it told.
    assert len(written) >= sum(line.endswith("\n") for line in told) >= 200


def test_two_processes_on_one_file_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with started(WRITER, path) as one, started(WRITER, path) as other:
        for writer in (one, other):
            assert writer.stdout is not None
            for _ in range(300):
                assert writer.stdout.readline()
        for writer in (one, other):
            writer.kill()
            assert writer.stdout is not None
            writer.stdout.read()
    lines = path.read_bytes().splitlines(keepends=True)
    # A kill may tear the last line of each.
    assert len(lines) - len(ids(path)) <= 2
    numbers = [int(baozi_id.rpartition("/")[2]) for baozi_id in ids(path)]
    assert all(numbers.count(number) == 2 for number in range(300))


@pytest.mark.parametrize(
    "use", [lambda journal: journal.write(Event.EATEN, "course/alex/1")], ids=["a write"]
)
def test_a_full_disk_is_an_error(use: Callable[[Journal], None]) -> None:
    need(Path("/dev/full").exists(), "this system has no /dev/full")
    with Journal(Path("/dev/full")) as journal, pytest.raises(OSError, match="No space left"):
        use(journal)


def test_a_line_that_found_half_its_room_is_left_out_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with started(FILLER, path) as filler:
        said, _ = filler.communicate(timeout=30)
    assert filler.returncode == 0
    assert b"\0\n" in path.read_bytes(), "a line was torn"
    assert ids(path) == [f"course/alex/{number}" for number in range(int(said) + 1)]


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        Journal(tmp_path / "file" / "j")


def test_the_file_is_closed_at_the_end(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        file = journal.fileno()
        os.fstat(file)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_a_program_that_is_started_does_not_hold_the_journal_open(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        assert not os.get_inheritable(journal.fileno())


def test_a_worker_s_journal_says_how_many_lines_it_could_not_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "小明.journal"
    path.mkdir()
    journal = WorkerJournal(path)
    journal.write(Event.STARTED, "r/alex/0", "r/alex/1")
    journal.write(Event.EATEN, "r/alex/0")
    path.rmdir()
    journal.write(Event.EATEN, "r/alex/1")
    assert [(entry.event, entry.baozi_id) for entry in read_journal(path)] == [
        (Event.MISSED, "3"),
        (Event.EATEN, "r/alex/1"),
    ]
    assert caplog.text.count("is incomplete from here on") == 1


def test_a_worker_s_journal_on_a_full_disk_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "小明.journal"
    path.symlink_to("/dev/full")
    journal = WorkerJournal(path)
    for _ in range(3):
        journal.write(Event.EATEN, "r/alex/0")
