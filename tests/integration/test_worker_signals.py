"""Each signal that Celery's documentation names does what it says there, and none ends in a traceback."""

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.place import Place
from tests.waiting import wait_until

WORKER = ["-m", "celery", "-A", "tasks", "worker", "-n", "小明@%h", "-c", "1", "-l", "INFO"]


class Started:
    """A worker that is not one of the place's own: it may replace itself, and have a terminal."""

    def __init__(self, place: Place, terminal: int | None = None) -> None:
        self.log = place.home / "worker.log"
        self.out = place.home / "worker.out"
        with self.log.open("wb") as log, self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *WORKER],
                env={**os.environ, **place.environment()},
                stdin=subprocess.DEVNULL,
                stdout=out if terminal is None else terminal,
                stderr=log if terminal is None else terminal,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture
def worker(private_place: Place) -> Iterator[Started]:
    started = Started(private_place)
    wait_until(lambda: private_place.consumers() > 0, "the worker to consume", 60)
    yield started
    if started.process.poll() is None:
        os.killpg(started.process.pid, signal.SIGKILL)
    started.process.wait(timeout=10)


def test_hup_restarts_the_worker_in_the_same_process(private_place: Place, worker: Started) -> None:
    place = private_place

    def restarted_and_eats(run: str, ready: int) -> None:
        before = psutil.Process(worker.process.pid).children()
        worker.send(signal.SIGHUP)
        wait_until(lambda: worker.said().count(" ready.") == ready, "the worker to be ready again", 60)
        wait_until(lambda: place.consumers() == 1, "it to consume", 60)
        assert not any(child.is_running() for child in before)
        place.produce(run, "alex", 3)
        wait_until(lambda: place.eaten(run) == 3, "it to eat", 60)

    restarted_and_eats("r1", 2)
    restarted_and_eats("r2", 3)
    assert worker.process.poll() is None
    assert "Traceback" not in worker.said()
    assert worker.said().count("Restarting celery worker") == 2
    lines = worker.out.read_text().splitlines()
    assert sorted(lines) == sorted(f"小明吃了alex生产了第{number}个包子" for number in (0, 1, 2) * 2)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT])
def test_other_signals_leave_the_worker_at_its_work(
    private_place: Place, worker: Started, number: signal.Signals
) -> None:
    worker.send(number)
    private_place.produce("r", "alex", 3)
    wait_until(lambda: private_place.eaten("r") == 3, "it to eat", 60)
    assert worker.process.poll() is None
    assert "Traceback" not in worker.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_reason_why_a_worker_ends_is_on_stderr_only(
    private_place: Place, worker: Started, number: signal.Signals
) -> None:
    worker.send(number)
    worker.process.wait(timeout=60)
    assert "shutdown (MainProcess)" in worker.said() or number is signal.SIGQUIT
    assert "Traceback" not in worker.said()
    assert worker.out.read_text() == ""
    assert private_place.consumers() == 0


def test_a_worker_whose_terminal_is_closed_ends_with_its_children(private_place: Place) -> None:
    ours, its = pty.openpty()
    started = Started(private_place, its)
    os.close(its)
    said: list[bytes] = []

    def read() -> None:
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                return
            if not piece:
                return
            said.append(piece)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_until(lambda: private_place.consumers() > 0, "the worker to consume", 60)
    children = psutil.Process(started.process.pid).children(recursive=True)
    started.send(signal.SIGHUP)
    started.process.wait(timeout=60)
    wait_until(lambda: not any(child.is_running() for child in children), "its children to end", 30)
    os.close(ours)
    assert b"Traceback" not in b"".join(said)


def test_a_log_line_cannot_be_forged_by_a_message(private_place: Place, worker: Started) -> None:
    forged = "x\n[2026-01-01 00:00:00,000: INFO/MainProcess] forged\x1b[2J\x1b]0;owned\x07"
    with private_place.producer() as producer:
        private_place.send_eat(producer, {"no": "baozi"}, more_headers={"id": forged})
        private_place.send_eat(producer, {"no": "baozi"}, task="tasks.none" + forged)
        private_place.send_eat(producer, {"run": forged, "producer": "p"})
        producer.publish(forged, exchange="baozi", routing_key="baozi", content_type="text/plain" + forged)
    wait_until(lambda: private_place.waiting("baozi.dead") == 4, "all to be dead", 60)
    assert "forged" in worker.said()
    assert "\x1b" not in worker.said()
    assert "\x07" not in worker.said()
    assert not any(line.startswith("[2026-01-01 00:00:00") for line in worker.said().splitlines())


def test_a_journal_stays_in_its_folder_and_a_consumer_has_the_name_it_was_given(private_place: Place) -> None:
    folder = private_place.home / "journal"
    member = private_place.process_group.start(
        "worker",
        "named",
        ["celery", "--quiet", "-A", "tasks", "worker", "-n", "小明", "-c", "1"],
        private_place.environment(journal=folder),
        Path.cwd(),
    )
    private_place.produce("r", "alex", 1)
    wait_until(lambda: private_place.eaten("r") == 1, "it to be eaten", 60)
    assert (folder / "consumer" / "小明.journal").exists(), member.log.read_text()
