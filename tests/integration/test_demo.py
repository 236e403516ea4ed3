"""The demo, end to end, as a user sees it, also when workers are killed in the middle of it."""

import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.integration.place import Place, kill
from tests.waiting import wait_until

PRODUCERS = ("alex", "peiqi", "egon")
#: What Flower's page of the tasks reads.
_TASKS = (
    "/tasks/datatable?draw=1&start=0&length=10&search[value]=name:tasks.eat"
    "&order[0][column]=0&columns[0][data]=name"
)
FLOWER = r"Flower: (http://127\.0\.0\.1:\d+)  user: (\S+)  password: (\S{12,})"
MADE = {f"{producer}生产了第{number}个包子" for producer in PRODUCERS for number in range(10)}


@dataclass
class Demo:
    """A running demo: its process, and the files that its output goes to."""

    process: psutil.Popen
    out: Path
    err: Path

    def said(self) -> str:
        return self.out.read_text() + self.err.read_text()

    def workers(self) -> list[psutil.Process]:
        """The main processes of the workers that are alive."""
        return [child for child in self.process.children() if "worker" in cmdline(child)]

    def finish(self, timeout: float = 120) -> int:
        return int(self.process.wait(timeout))


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@contextmanager
def demo(environment: dict[str, str], folder: Path, *arguments: str) -> Iterator[Demo]:
    """Start a demo; at the end, see that it left no process."""
    out, err = folder / "out", folder / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = psutil.Popen(
            [sys.executable, "-m", "baozi", "demo", *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    running = Demo(process, out, err)
    try:
        yield running
    finally:
        if process.is_running():  # the test has failed, or the demo hangs
            for one in [*process.children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
    marked = [one for one in psutil.process_iter() if environment["BAOZI_HOME"] in home_of(one)]
    assert not marked, f"left behind: {marked}"


def home_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("BAOZI_HOME", "")
    except psutil.Error:
        return ""


def total(running: Demo) -> dict[str, int]:
    sums: dict[str, int] = json.loads(running.out.read_text().splitlines()[-1])["total"]
    return sums


def test_the_demo_prints_the_courses_lines_and_proves_that_nothing_is_lost(
    place: Place, tmp_path: Path
) -> None:
    with demo(place.environment(), tmp_path) as running:
        assert running.finish() == 0, running.said()
    lines = running.out.read_text().splitlines()
    assert {line for line in lines if re.fullmatch(r"\w+生产了第\d+个包子", line)} >= MADE
    eaten = [line for line in lines if "吃了" in line]
    assert sorted(line.split("吃了")[1] for line in eaten) == sorted(MADE)
    assert {line.split("吃了")[0] for line in eaten} == {"小明", "小红"}
    assert "主进程" in lines
    assert lines[-1].endswith("30 accepted, 30 eaten, 0 lost, 0 duplicated")
    assert any(re.match(FLOWER, line) for line in lines)


@pytest.mark.parametrize("victim", ["main process", "pool child"])
def test_a_worker_killed_in_the_middle_of_the_demo_loses_nothing(
    place: Place, tmp_path: Path, victim: str
) -> None:
    with demo(place.environment(), tmp_path, "--json", "--pace", "0.15") as running:
        wait_until(lambda: running.said().count("吃了") > 3, "the demo to be in the middle of its work", 60)
        worker = running.workers()[0]
        kill(worker if victim == "main process" else worker.children()[0])
        assert running.finish() == 0, running.said()
    sums = total(running)
    assert (sums["accepted"], sums["eaten"], sums["lost"], sums["unexpected"]) == (30, 30, 0, 0)
    assert running.said().count("吃了") == 30


def test_flower_shows_the_workers_names_only_with_the_password(place: Place, tmp_path: Path) -> None:
    with demo(place.environment(), tmp_path, "--pace", "0.5") as running:
        said = wait_until(lambda: re.search(FLOWER, running.said()), "the demo to say where Flower is", 60)
        assert said is not None
        url, user, password = said.groups()
        wait_until(lambda: "吃了" in running.said(), "a baozi to be eaten", 60)
        assert status(url) == 401
        assert status(url, user, "wrong") == 401
        login = b64encode(f"{user}:{password}".encode()).decode()

        def page(path: str = "/workers?json=1") -> str:
            request = Request(url + path, headers={"Authorization": f"Basic {login}"})
            with urlopen(request, timeout=10) as answer:
                text = str(answer.read().decode())
            return json.dumps(json.loads(text), ensure_ascii=False) if text.startswith("{") else text

        wait_until(lambda: "小明@" in page() and "小红@" in page(), "Flower to show both workers", 30)
        first = r'"args": "[^"/]+/(alex|peiqi|egon)/\d+"'
        wait_until(lambda: re.search(first, page(_TASKS)), "Flower to show the baozi's ids", 30)
        running.process.send_signal(signal.SIGINT)
        running.finish(timeout=40)


def status(url: str, user: str = "", password: str = "") -> int:
    """The HTTP status that a visitor with this login gets."""
    request = Request(url + "/")
    if user:
        login = b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
    try:
        with urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except URLError:
        return 0


def is_loading(demo: Demo) -> bool:
    """Whether Python has started and imports the demo's modules.

    Before, an interrupt is not the demo's: Python prints a traceback, or goes on ("Failed checking if argv[0]
    is an import path entry").
    """
    return "_pydantic_core" in Path(f"/proc/{demo.process.pid}/maps").read_text()


@pytest.mark.parametrize("after", ["the start", "Flower: ", "Run ", "生产了", "吃了"])
def test_one_ctrl_c_stops_the_demo_cleanly_at_any_moment(place: Place, tmp_path: Path, after: str) -> None:
    with demo(place.environment(), tmp_path) as running:

        def it_is_time() -> bool:
            return is_loading(running) if after == "the start" else after in running.said()

        wait_until(it_is_time, f"the demo to come to {after}", 60)
        running.process.send_signal(signal.SIGINT)
        assert running.finish(timeout=40) == 130
    assert "Traceback" not in running.said()
    if after != "the start":
        assert "Stopping … Waiting for " in running.err.read_text()
        assert "Press Ctrl-C again to end at once." in running.err.read_text()
    if after in {"Run ", "生产了", "吃了"}:
        assert "worker 小明, worker 小红" in running.err.read_text()


def test_a_second_ctrl_c_kills_what_the_demo_has_started(private_place: Place, tmp_path: Path) -> None:
    with demo(private_place.environment(), tmp_path) as running:
        wait_until(lambda: "吃了" in running.said(), "a baozi to be eaten", 60)
        for worker in running.workers():
            worker.suspend()  # it does not end by itself
        running.process.send_signal(signal.SIGINT)
        wait_until(lambda: "Stopping …" in running.said(), "the demo to say that it stops")
        running.process.send_signal(signal.SIGINT)
        assert running.finish(timeout=40) == 130
    assert "Traceback" not in running.said()


def test_the_demo_starts_and_stops_its_own_broker(tmp_path: Path) -> None:
    environment = {"BAOZI_HOME": str(tmp_path / "home")}
    with demo(environment, tmp_path, "--json", "--pace", "0.01") as running:
        assert running.finish() == 0, running.said()
    assert total(running)["eaten"] == 30
    found = subprocess.run(
        [sys.executable, "-m", "baozi", "broker", "status"],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 3


def test_the_demo_in_memory_prints_what_it_does_not_guarantee(tmp_path: Path) -> None:
    environment = {"BAOZI_HOME": str(tmp_path / "home"), "BAOZI_BROKER_URL": "memory://"}
    with demo(environment, tmp_path, "--json", "--pace", "0.01") as running:
        assert running.finish() == 0, running.said()
    assert total(running)["eaten"] == 30
    *_, last = running.err.read_text().splitlines()
    assert "30 eaten in memory. This shows the model and proves nothing" in last
    assert "nothing is confirmed" in last


def test_the_demo_in_memory_prints_its_warning_where_the_audit_would_be(tmp_path: Path) -> None:
    environment = {"BAOZI_HOME": str(tmp_path / "home"), "BAOZI_BROKER_URL": "memory://"}
    with demo(environment, tmp_path, "--pace", "0.01") as running:
        assert running.finish() == 0, running.said()
    _, ended, warning = running.out.read_text().rpartition("主进程\n")
    assert ended
    assert warning.count("\n") == 1
    assert "proves nothing" in warning
