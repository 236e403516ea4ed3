"""The group: it knows its processes, waits with a deadline, and leaves none behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from baozi.errors import DeadlinePassed, UsageError
from baozi.journal import Event, Journal
from baozi.workload import Workload
from side_by_side.local_transport import run_lesson
from side_by_side.multiprocessing_group import MultiprocessingGroup, ProcessFailed, Role
from tests.conformance.records import Records
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SHORT = Workload(make_seconds=0, eat_seconds=0, deadline=1)


def sleep_for_ever(_channel: None, _name: str, _workload: Workload, _journal: Journal) -> None:
    while True:
        time.sleep(60)


def fail(_channel: None, _name: str, _workload: Workload, _journal: Journal) -> None:
    raise UsageError("It would not go.")


def test_a_deadline_names_the_processes_that_still_wait_and_leaving_the_group_ends_them(
    tmp_path: Path,
) -> None:
    with MultiprocessingGroup(SHORT, tmp_path, start_method="spawn") as group:
        group.start(Role.CONSUMER, sleep_for_ever, None, "小红")
        with pytest.raises(DeadlinePassed, match=r"Not done within 1 s; these still wait: consumer 小红\."):
            group.wait(group.processes)
        assert psutil.pid_exists(group.processes[0].pid)
    assert group.processes[0].process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(group.processes[0].pid)


def test_a_process_that_fails_ends_the_wait_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with MultiprocessingGroup(Workload(), tmp_path, start_method="spawn") as group:
        waiting = group.start(Role.CONSUMER, sleep_for_ever, None, "小红")
        group.start(Role.PRODUCER, fail, None, "alex")
        with pytest.raises(ProcessFailed, match="The producer alex failed"):
            group.wait([waiting])
    assert capfd.readouterr().err == "It would not go.\n"


def test_a_tick_gets_the_processes_and_can_kill_one(tmp_path: Path) -> None:
    def kill_the_busy_consumer(group: MultiprocessingGroup) -> None:
        records = Records(tmp_path)
        for actor in group.processes:
            started = records.of(Event.STARTED, actor.name)
            if actor.role is Role.CONSUMER and len(started) > len(records.of(Event.EATEN, actor.name)):
                actor.process.kill()

    workload = Workload(producers=("alex",), consumers=("小明",), make_seconds=0, eat_seconds=1)
    with MultiprocessingGroup(workload, tmp_path, start_method="spawn", tick=kill_the_busy_consumer) as group:
        run_lesson("queue", group)
    assert [actor.role for actor in group.processes] == [Role.PRODUCER, Role.CONSUMER, Role.CLOSER]
    assert group.processes[1].process.exitcode == -signal.SIGKILL
    records = Records(tmp_path)
    assert (len(records.ids(Event.ACCEPTED)), len(records.ids(Event.STARTED))) == (10, 1)
    assert records.ids(Event.EATEN) == []


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda blow: blow.name)
def test_no_process_outlives_a_parent_that_is_stopped(blow: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "local_mp", "manager-queue"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that what is sent to its group reaches its children, as Ctrl-C does
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert "生产了" in parent.stdout.readline(), "nothing was at work yet"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 6
        if blow is signal.SIGINT:
            os.killpg(parent.pid, blow)
        else:
            parent.send_signal(blow)
        parent.wait(timeout=30)
        try:
            wait_until(lambda: not any(child.is_running() for child in children), f"the end of {children}")
        finally:
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        assert parent.returncode == (-blow if blow is signal.SIGKILL else 130)
        if blow is not signal.SIGKILL:
            assert parent.stderr.read() == ""
