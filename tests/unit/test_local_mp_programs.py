"""``python -m local_mp`` and each lesson by itself, beside the lines of the course."""

import inspect
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import typer

from baozi.errors import BaoziError
from baozi.journal import Event
from baozi.settings import settings
from local_mp import command, joinable_queue, lessons, sentinel_queue, tickets
from local_mp.guarded import GuardedProcess
from local_mp.lessons import LESSONS
from side_by_side import local_transport
from tests.conformance.records import Records

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "local_mp"]
#: ``baozi local``, without the time that the other commands of ``baozi`` take to load.
COMMAND = [
    sys.executable,
    "-c",
    "from baozi import command_line; command_line.main('local_mp.command:app')",
    "manager-queue",
]
NAMES = [
    "tickets",
    "file-lock",
    "pipe-lock",
    "queue-basics",
    "queue",
    "joinable-queue",
    "manager-queue",
]
#: Without what the machine's user has set, and with the key that the parts of a Manager share.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("BAOZI_", "PYTHON"))}
KEY = ENVIRONMENT | {"BAOZI_AUTHKEY": "not a secret, but long"}
#: Python and nothing else: no package is installed.
BARE = [sys.executable, "-I", "-S", "-c"]


def ran(
    arguments: list[str], environment: dict[str, str] = ENVIRONMENT, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        encoding=encoding,
        timeout=60,
        check=False,
    )


def lines_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def check_queue(lines: list[str]) -> None:
    """Check the lines of the course's program with a Queue."""
    made = [f"{who}生产了第{number}个包子" for who in ("alex", "peiqi", "egon") for number in range(10)]
    eaten = [line.partition("吃了")[2] for line in lines if "吃了" in line]
    assert sorted(line for line in lines if "生产了" in line and "吃了" not in line) == sorted(made)
    assert sorted(eaten) == sorted(made)
    assert {line.partition("吃了")[0] for line in lines if "吃了" in line} <= {"小明", "小红"}
    assert len(lines) == 61
    assert lines[-1] == "主进程"


def check_joinable_queue(lines: list[str]) -> None:
    """Check the lines of the course's program with a JoinableQueue."""
    made = Counter(line for line in lines if "生产了" in line)
    eaten = [re.fullmatch(r"消费者[12]吃了([01])包子", line) for line in lines if "吃了" in line]
    assert made == Counter(f"生产者{who} 生产了{number}包子" for who in (1, 2, 3) for number in (0, 1))
    assert Counter(match and match.group(1) for match in eaten) == {"0": 3, "1": 3}
    assert len(lines) == 13
    assert lines[-1] == "主进程"


def check_queue_basics(lines: list[str]) -> None:
    """Check that three items fill the queue, come out in order, and leave it empty."""
    full, put, *items, empty, get = lines
    assert (full, empty) == ("True", "True")
    assert items == ["hello", "[1, 2, 3, 4]", "{'name': 'alex', 'age': 15}"]
    assert re.fullmatch(r"第四次put阻塞了\d\.\d秒", put)
    assert re.fullmatch(r"第四次get阻塞了\d\.\d秒", get)


def check_tickets(lines: list[str]) -> None:
    """Check that tickets are sold more than once without the lock, and not with it."""
    bought = [line for line in lines if line.endswith("买到了票")]
    oversale = re.search(r"不加锁：3张票，卖出(\d+)张", "\n".join(lines))
    assert oversale is not None
    assert int(oversale.group(1)) > 3
    assert lines[-1] == "加锁：3张票，卖出3张"
    assert len(bought) == int(oversale.group(1)) + 3
    assert len(lines) == 22


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "tickets": check_tickets,
    "file-lock": check_queue,
    "pipe-lock": check_queue,
    "queue-basics": check_queue_basics,
    "queue": check_queue,
    "joinable-queue": check_joinable_queue,
    "manager-queue": check_queue,
}


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("name", LESSONS)
def test_each_lesson_prints_the_courses_lines_with_every_start_method(name: str, method: str) -> None:
    lesson, pace = LESSONS[name].__name__, 1 if name == "tickets" else 0
    program = (
        f"import multiprocessing; multiprocessing.set_start_method({method!r})\n"
        f"from {lesson} import main; main({pace})\n"
    )
    # Windows and macOS have spawn alone, and lack much that Linux has. A Chinese Windows prints GBK.
    elsewhere = {"PYTHONPATH": str(ROOT / "tests/unit/other_systems"), "PYTHONIOENCODING": "gbk"}
    environment = ENVIRONMENT | (elsewhere if method == "spawn" else {"PYTHONIOENCODING": "utf-8"})
    done = ran([sys.executable, "-W", "error", "-c", program], environment, environment["PYTHONIOENCODING"])
    CHECKS[name](lines_of(done))


def test_a_clone_and_python_alone_list_the_lessons_and_run_one() -> None:
    program = "import runpy, sys; sys.path.insert(0, ''); runpy.run_module('local_mp', run_name='__main__')"
    listed = lines_of(ran([*BARE, program]))
    assert [line.split()[0] for line in listed[::2]] == NAMES
    chinese = [line.split(maxsplit=1)[1] for line in listed[::2]]
    assert all(re.search(r"[\u4e00-\u9fff]", title) and "`" not in title for title in chinese)
    assert all(re.fullmatch(r" {16}[\w (),'.]{10,}\.", line) for line in listed[1::2])
    check_queue(lines_of(ran([*BARE, program, "queue", "--pace", "0.01"])))


def test_the_lines_of_several_processes_do_not_mix() -> None:
    # Unbuffered: that is when they mix, unless each is one write.
    unbuffered = ENVIRONMENT | {"PYTHONUNBUFFERED": "1"}
    lines = lines_of(ran([*PROGRAM, "manager-queue", "--pace", "0.01"], unbuffered))
    check_queue(lines)
    assert {line.partition("吃了")[0] for line in lines if "吃了" in line} == {"小明", "小红"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mailbox", "--pace", "0"], f"There is no 'mailbox' here; there are: {', '.join(NAMES)}."),
        (["queue", "--pace", "-1"], "Argument --pace: invalid factor value: '-1'. See --help."),
        (["queue", "twice"], "Unrecognized arguments: twice. See --help."),
    ],
)
def test_bad_input_to_the_lessons_is_one_sentence(arguments: list[str], says: str) -> None:
    done = ran([*PROGRAM, *arguments])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", says + "\n")


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_comparison_runs_every_lesson_with_start_methods_other_than_spawn(
    method: str, tmp_path: Path
) -> None:
    # With spawn, the conformance suite runs them.
    program = (
        "import multiprocessing, sys; from pathlib import Path; from baozi.workload import Workload\n"
        "from side_by_side.local_transport import LESSONS, run_lesson\n"
        "from side_by_side.multiprocessing_group import MultiprocessingGroup as Group\n"
        "multiprocessing.set_forkserver_preload(['side_by_side.local_transport'])\n"
        "for name in LESSONS:\n"
        "    with Group(Workload().paced(0), Path(sys.argv[2]) / name, start_method=sys.argv[1]) as group:\n"
        "        run_lesson(name, group)\n"
    )
    assert lines_of(ran([sys.executable, "-W", "error", "-c", program, method, str(tmp_path)])) == []
    for name in local_transport.LESSONS:
        records = Records(tmp_path / name)
        assert len(records.ids(Event.EATEN)) == 30
        assert records.ids(Event.EATEN) == records.ids(Event.ACCEPTED)


@pytest.fixture
def address() -> Iterator[str]:
    """A Manager's own command, on a free port of loopback; it goes with Ctrl-C."""
    serve = [*COMMAND, "serve", "--address", "127.0.0.1:0", "--capacity", "5"]
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
        subprocess.Popen([*COMMAND, "consume", name, *fast], cwd=ROOT, env=KEY) for name in ("小明", "小红")
    ]
    try:
        for name in ("alex", "peiqi"):
            assert ran([*COMMAND, "produce", name, *fast], KEY).returncode == 0
        # One with another authkey is refused. It closes nothing.
        (tmp_path / "key").write_text("another\n")
        done = ran([*COMMAND, "close", *where, "--authkey-file", str(tmp_path / "key")])
        assert (done.returncode, done.stderr) == (
            3,
            "The Manager has another authkey. Give all processes the same authkey.\n",
        )
        # One None too many stays behind, and the server says so when it goes.
        assert ran([*COMMAND, "close", "--consumers", "3", *where], KEY).returncode == 0
        assert [consumer.wait(timeout=30) for consumer in consumers] == [0, 0]
    finally:
        for consumer in consumers:
            consumer.kill()
            consumer.wait()
    records = Records(tmp_path)
    assert len(records.ids(Event.ACCEPTED)) == 20
    assert records.ids(Event.EATEN) == records.ids(Event.ACCEPTED)


@pytest.mark.parametrize(
    ("arguments", "key", "code", "says"),
    [
        (["serve"], False, 2, "An authkey is needed, the same for all processes. Set BAOZI_AUTHKEY"),
        (["serve", "--authkey-file", "/nowhere"], False, 2, "The authkey's file /nowhere cannot be read"),
        (["serve", "--authkey-file", os.devnull], True, 2, "An authkey is needed"),
        (["serve", "--address", "5680"], True, 2, "'5680' is not an address. An address is HOST:PORT"),
        (["serve", "--address", "127.0.0.1:70000"], True, 2, "'127.0.0.1:70000' is not an address"),
        (["produce", "a/b"], True, 2, "The workload's producers must not contain '/'"),
        (["produce", "alex", "--address", "127.0.0.1:1"], True, 3, "No Manager answers at 127.0.0.1:1"),
        (["consume", "小明", "--journal", os.devnull], True, 2, "The journal cannot be kept in /dev/null"),
        (["juggle"], True, 2, "There is no 'juggle' here; there are: serve, produce, consume, close."),
    ],
)
def test_bad_input_to_the_managers_parts_is_one_sentence_and_a_named_code(
    arguments: list[str], key: bool, code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BAOZI_AUTHKEY", raising=False)
    if key:
        monkeypatch.setenv("BAOZI_AUTHKEY", KEY["BAOZI_AUTHKEY"])
    settings.cache_clear()
    try:
        # `baozi.command_line` makes the sentence and the exit code of the error (test_bugs.py).
        with pytest.raises(BaoziError) as error:
            typer.main.get_command(command.app)(["manager-queue", *arguments], standalone_mode=False)
    finally:
        settings.cache_clear()
    assert error.value.exit_code == code
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_a_lesson_shows_how_processes_are_started_and_joined_and_can_be_read_in_two_minutes() -> None:
    for module in (tickets, sentinel_queue, joinable_queue):
        source = inspect.getsource(module)
        assert all(word in source for word in ("Process(", ".start()", ".join()"))
    for name, lesson in LESSONS.items():
        source, about = inspect.getsource(lesson), lesson.__doc__ or ""
        assert len(source.splitlines()) - len(about.splitlines()) <= 70
        title, _, rest = about.partition("\n")
        assert f"``{name}``：" in title, "Chinese first"
        assert f"``{name}``: " in rest, "then English"


@pytest.mark.parametrize("system", ["POSIX", "Windows"])
def test_a_lesson_that_does_not_end_is_given_up_at_its_deadline(
    system: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if system == "Windows":
        monkeypatch.delattr(signal, "pthread_kill")
    before = set(psutil.Process().children())
    monkeypatch.setattr(lessons, "DEADLINE", 1)
    monkeypatch.setattr(sentinel_queue, "consumer", never_ends)
    with pytest.raises(TimeoutError, match="Not done within 1 s"):
        lessons.run("queue", 0.001)
    assert set(psutil.Process().children()) <= before
    assert vars(sentinel_queue)["Process"] is not GuardedProcess
    assert "主进程" not in capsys.readouterr().out


def never_ends(_queue: object, _name: str, _seconds: float) -> None:
    time.sleep(3600)
