"""``python -m local_mp``: each program beside the lines of the course."""

import inspect
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from baozi.journal import Event
from local_mp import command, joinable_queue, sentinel_queue
from local_mp.command import LESSONS
from local_mp.guarded import DeadlinePassed
from side_by_side import local_transport
from tests.conformance.records import Records

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "local_mp"]
NAMES = [
    "tickets",
    "file-lock",
    "pipe-lock",
    "queue-basics",
    "queue",
    "joinable-queue",
    "manager-queue",
]
#: Without what the machine's user has set, with the key that the parts of a Manager share, and unbuffered,
#: for that is when lines of several processes mix unless each is one write.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("BAOZI_")},
    "PYTHONUNBUFFERED": "1",
}
#: As in a user's shell: a process writes its lines together.
BUFFERED = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}
KEY = ENVIRONMENT | {"BAOZI_AUTHKEY": "not a secret, but long"}


def local(*arguments: str, environment: dict[str, str] = ENVIRONMENT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lines_of(*arguments: str) -> list[str]:
    done = local(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_without_a_name_it_lists_what_there_is() -> None:
    listed = lines_of()
    assert [line.split()[0] for line in listed] == NAMES
    assert all(len(line.split(maxsplit=1)[1]) > 10 for line in listed)


@pytest.mark.parametrize("arguments", [["mailbox"], ["mailbox", "--pace", "0"]])
def test_an_unknown_name_is_a_usage_error_that_lists_the_names(arguments: list[str]) -> None:
    done = local(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"There is no 'mailbox' here; there are: {', '.join(NAMES)}.\n"


@pytest.mark.parametrize("name", ["file-lock", "pipe-lock", "queue", "manager-queue"])
def test_row_4s_lines_are_the_courses(name: str) -> None:
    lines = lines_of(name, "--pace", "0.01")
    made = [f"{who}生产了第{number}个包子" for who in ("alex", "peiqi", "egon") for number in range(10)]
    eaten = [line.partition("吃了")[2] for line in lines if "吃了" in line]
    assert sorted(line for line in lines if "生产了" in line and "吃了" not in line) == sorted(made)
    assert sorted(eaten) == sorted(made)
    assert {line.partition("吃了")[0] for line in lines if "吃了" in line} == {"小明", "小红"}
    assert len(lines) == 61
    assert lines[-1] == "主进程"


def test_row_5s_lines_are_the_courses() -> None:
    lines = lines_of("joinable-queue", "--pace", "0.01")
    made = Counter(line for line in lines if "生产了" in line)
    eaten = [re.fullmatch(r"消费者[12]吃了([01])包子", line) for line in lines if "吃了" in line]
    assert made == Counter(f"生产者{who} 生产了{number}包子" for who in (1, 2, 3) for number in (0, 1))
    assert Counter(match and match.group(1) for match in eaten) == {"0": 3, "1": 3}
    assert len(lines) == 13
    assert lines[-1] == "主进程"


def test_row_3_fills_a_queue_of_three_and_empties_it() -> None:
    full, blocked, *items, empty, starved = lines_of("queue-basics", "--pace", "0.3")
    assert (full, empty) == ("True", "True")
    assert items == ["hello", "[1, 2, 3, 4]", "{'name': 'alex', 'age': 15}"]
    assert re.fullmatch(r"a fourth put blocked for 0\.\d s", blocked)
    assert re.fullmatch(r"a get on an empty queue blocked for 0\.\d s", starved)


def test_tickets_are_oversold_without_the_lock_and_not_with_it() -> None:
    lines = lines_of("tickets")
    bought = [line for line in lines if line.endswith("has bought a ticket")]
    assert "with the lock: 3 tickets, 3 sold" in lines
    oversale = re.search(r"without the lock: 3 tickets, (\d+) sold", "\n".join(lines))
    assert oversale is not None
    assert int(oversale.group(1)) > 3
    assert len(bought) == int(oversale.group(1)) + 3


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize("name", local_transport.LESSONS)
def test_every_start_method_will_do(name: str, method: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from baozi.workload import Workload\n"
        "from side_by_side.local_transport import run_lesson\n"
        "from side_by_side.multiprocessing_group import MultiprocessingGroup as Group\n"
        "with Group(Workload().paced(0), Path(sys.argv[3]), start_method=sys.argv[2]) as group:\n"
        "    run_lesson(sys.argv[1], group)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, name, method, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    records = Records(tmp_path)
    assert len(records.ids(Event.EATEN)) == 30
    assert records.ids(Event.EATEN) == records.ids(Event.ACCEPTED)


@pytest.fixture
def address() -> Iterator[str]:
    """A Manager's own command, on a free port of loopback; it goes with Ctrl-C."""
    serve = [*PROGRAM, "manager-queue", "serve", "--address", "127.0.0.1:0", "--capacity", "5"]
    with subprocess.Popen(serve, cwd=ROOT, env=KEY, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().removeprefix("the Manager is at ").strip()
            server.send_signal(signal.SIGINT)
            assert server.stdout.read() == "the Manager is gone, and 1 items with it\n"
            assert server.wait(timeout=30) == 0
        finally:
            server.kill()


def test_the_managers_parts_run_as_commands_of_their_own(address: str, tmp_path: Path) -> None:
    where = ["--address", address]
    fast = [*where, "--pace", "0.01", "--journal", str(tmp_path)]
    consumers = [
        subprocess.Popen([*PROGRAM, "manager-queue", "consume", name, *fast], cwd=ROOT, env=KEY)
        for name in ("小明", "小红")
    ]
    try:
        for name in ("alex", "peiqi"):
            assert local("manager-queue", "produce", name, *fast, environment=KEY).returncode == 0
        # One None too many stays behind, and the server says so when it goes.
        assert local("manager-queue", "close", "--consumers", "3", *where, environment=KEY).returncode == 0
        assert [consumer.wait(timeout=30) for consumer in consumers] == [0, 0]
    finally:
        for consumer in consumers:
            consumer.kill()
            consumer.wait()
    records = Records(tmp_path)
    assert len(records.ids(Event.ACCEPTED)) == 20
    assert records.ids(Event.EATEN) == records.ids(Event.ACCEPTED)


def test_another_authkey_is_refused_in_one_sentence(address: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("another\n")
    where = ["--address", address, "--authkey-file", str(tmp_path / "key")]
    done = local("manager-queue", "produce", "alex", *where)
    assert (done.returncode, done.stderr) == (
        3,
        "The Manager has another authkey; give all parts the same.\n",
    )
    assert local("manager-queue", "close", "--consumers", "1", *where[:2], environment=KEY).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (["serve"], ENVIRONMENT, 2, "An authkey is needed, the same for all: set BAOZI_AUTHKEY"),
        (
            ["serve", "--authkey-file", "/nowhere"],
            ENVIRONMENT,
            2,
            "The authkey's file /nowhere cannot be read",
        ),
        (["serve", "--authkey-file", os.devnull], KEY, 2, "An authkey is needed"),
        (["serve", "--address", "5680"], KEY, 2, "'5680' is no address; it is HOST:PORT"),
        (["serve", "--address", "127.0.0.1:70000"], KEY, 2, "'127.0.0.1:70000' is no address"),
        (["produce", "a/b"], KEY, 2, "The workload's producers must not contain '/'"),
        (["produce", "alex", "--address", "127.0.0.1:1"], KEY, 3, "No Manager answers at 127.0.0.1:1"),
        (["consume", "小明", "--journal", os.devnull], KEY, 2, "The journal cannot be kept in /dev/null"),
        (["juggle"], KEY, 2, "There is no 'juggle' here; there are: serve, produce, consume, close."),
    ],
)
def test_bad_input_is_one_sentence_and_a_named_code(
    arguments: list[str], environment: dict[str, str], code: int, says: str
) -> None:
    done = local("manager-queue", *arguments, environment=environment)
    assert done.returncode == code
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize(
    "module", ["file_lock", "pipe_lock", "sentinel_queue", "joinable_queue", "manager_queue"]
)
def test_each_lesson_runs_on_its_own_with_every_start_method(module: str, method: str) -> None:
    program = (
        f"import multiprocessing; multiprocessing.set_start_method({method!r})\n"
        f"from local_mp import {module}; {module}.main(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env=BUFFERED,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    made = 6 if module == "joinable_queue" else 30
    assert len([line for line in lines if "吃了" in line]) == made
    assert lines[-1] == "主进程"


def test_a_lesson_shows_how_processes_are_started_and_joined_and_can_be_read_in_two_minutes() -> None:
    for module in (sentinel_queue, joinable_queue):
        source = inspect.getsource(module)
        assert all(word in source for word in ("Process(", ".start()", ".join()"))
    for lesson in LESSONS.values():
        assert len(inspect.getsource(lesson).splitlines()) < 105
        title, _, rest = (lesson.__doc__ or "").partition("\n")
        assert "``：" in title, "Chinese first"
        assert "``: " in rest, "then English"


def test_a_lesson_that_does_not_end_is_given_up_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_DEADLINE", 2)
    monkeypatch.setattr(sentinel_queue, "consumer", never_ends)
    with pytest.raises(DeadlinePassed, match="Not done within 2 s"):
        command._run("queue", 0.001)
    assert not multiprocessing.active_children()


def never_ends(_queue: object, _name: str, _seconds: float) -> None:
    time.sleep(3600)
