"""`baozi compare` as a user runs it: real processes, real kills, a broker of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from baozi.broker import private_node
from side_by_side.comparison_results import ComparisonResults, RunKind, read_results
from tests.requirements import need
from tests.waiting import wait_until

#: How often each fault is injected into each transport; it must go the same way every time.
TRIES = 3
#: A kill of the broker takes ten seconds, for which nothing else should be under way.
BROKER_KILLED = [
    ("celery", "kill-store"),
    ("celery-trays", "kill-store"),
    ("rabbitmq-queue", "kill-store"),
]
ON_A_BROKER = {"celery", "celery-trays", "rabbitmq-queue"}
#: Runs that go on at once: most of their time they wait, but a machine may have two cores.
AT_ONCE = 2

#: What each transport makes of each fault.
EXPECTED = {
    ("file-lock", "kill-busy-consumer"): "lost",
    ("file-lock", "kill-idle-consumer"): "sound",
    ("file-lock", "kill-producer"): "sound",
    ("pipe-lock", "kill-busy-consumer"): "lost",
    ("pipe-lock", "kill-idle-consumer"): "wedged",
    ("pipe-lock", "kill-producer"): "sound",
    ("queue", "kill-busy-consumer"): "lost",
    ("queue", "kill-idle-consumer"): "wedged",
    ("queue", "kill-producer"): "wedged",
    ("joinable-queue", "kill-busy-consumer"): "wedged",
    ("joinable-queue", "kill-idle-consumer"): "wedged",
    ("joinable-queue", "kill-producer"): "wedged",
    ("manager-queue", "kill-busy-consumer"): "lost",
    ("manager-queue", "kill-idle-consumer"): "lost",
    ("manager-queue", "kill-producer"): "sound",
    ("manager-queue", "kill-store"): "lost",
    ("rabbitmq-queue", "kill-busy-consumer"): "sound",
    ("rabbitmq-queue", "kill-idle-consumer"): "sound",
    ("rabbitmq-queue", "kill-producer"): "sound",
    ("rabbitmq-queue", "kill-store"): "duplicated",
    ("celery", "kill-busy-consumer"): "sound",
    ("celery", "kill-idle-consumer"): "sound",
    ("celery", "kill-producer"): "sound",
    ("celery", "kill-store"): "sound",
    ("celery-trays", "kill-busy-consumer"): "sound",
    ("celery-trays", "kill-idle-consumer"): "sound",
    ("celery-trays", "kill-producer"): "sound",
    ("celery-trays", "kill-store"): "sound",
}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "baozi", "compare", *arguments]


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BAOZI_")} | more


def compare(*arguments: str, code: int = 0, timeout: float = 600) -> str:
    """Run the command, see that it ends with ``code``, and return what it printed."""
    done = subprocess.run(
        command(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stderr if code == 2 else done.stdout


Cell = tuple[str, str]


@pytest.fixture(scope="module")
def tried() -> Iterator[dict[Cell, "Future[str]"]]:
    """Every fault on every transport, so many times, several at once, those that take longest first."""
    cells = sorted(EXPECTED.keys() - {*BROKER_KILLED}, key=lambda cell: (cell[0] not in ON_A_BROKER, cell))
    if private_node.server() is None:
        cells = [cell for cell in cells if cell[0] not in ON_A_BROKER]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            (name, fault): pool.submit(
                compare, name, "--fault", fault, "--repeat", str(TRIES), "--json", timeout=900
            )
            for name, fault in cells
        }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cell", [cell for cell in EXPECTED if cell not in BROKER_KILLED], ids=" ".join)
def test_a_fault_has_the_expected_verdict_every_time(cell: Cell, tried: dict[Cell, "Future[str]"]) -> None:
    need(cell in tried, "this machine has no rabbitmq-server")
    see_the_verdicts(cell, tried[cell].result())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", BROKER_KILLED, ids=" ".join)
def test_a_broker_that_is_killed_loses_nothing(cell: Cell) -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    name, fault = cell
    see_the_verdicts(cell, compare(name, "--fault", fault, "--repeat", str(TRIES), "--json"))


def see_the_verdicts(cell: Cell, said: str) -> None:
    results = ComparisonResults.model_validate_json(said)
    assert Counter(str(run.verdict) for run in results.runs) == {EXPECTED[cell]: TRIES}
    for run in results.runs:
        assert run.as_expected
        assert run.fault_at is not None, "the fault was not injected"
        assert run.fault_at >= 0, "no work was in flight"
        assert run.counts.unexpected == 0
        if run.transport in ON_A_BROKER:
            assert run.counts.lost == 0


@dataclass(frozen=True)
class Whole:
    """What one command prints, and the folder that it leaves, with little work."""

    stdout: str
    stderr: str
    out: Path
    opened: str
    """The address that it opened in a browser."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    out, place = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("browser")
    browser, opened = place / "browser", place / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(0o755)
    small = ["--per-producer", "20", "--repeat", "2", "--seed", "7", "--rate", "40"]
    done = subprocess.run(
        command(*small, "--out", str(out), "--open"),
        env=environment(BROWSER=str(browser)),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return Whole(done.stdout, done.stderr, out, opened.read_text().strip())


@pytest.mark.timeout(400)
def test_without_a_terminal_each_run_is_a_line_and_the_last_line_names_the_report(whole: Whole) -> None:
    results = read_results(whole.out / "results.json")
    first, *lines = whole.stderr.splitlines()
    assert first.startswith(f"{len(results.runs)} runs")
    for number, (run, line) in enumerate(zip(results.runs, lines, strict=True), 1):
        title = f"{run.transport}, {run.fault or run.measure}"
        lost = f"lost {run.counts.lost:,} of {run.counts.accepted:,}"
        assert line.startswith(f"{number} of {len(results.runs)}  {title}: {run.verdict}, {lost}, ")
    report = whole.out / "report.html"
    assert whole.stdout.splitlines()[-1] == f"The report is {report}."
    assert whole.opened == report.as_uri()


@pytest.mark.timeout(400)
def test_one_command_prints_a_row_for_each_transport_with_five_verdicts(whole: Whole) -> None:
    table = whole.stdout
    assert max(len(line) for line in table.splitlines() if "kill-" in line) <= 80
    for name in dict.fromkeys(name for name, _ in EXPECTED):
        row = next(line.split() for line in table.splitlines() if line.split()[:1] == [name])
        faults = ("kill-busy-consumer", "kill-idle-consumer", "kill-producer", "kill-store")
        assert row == [name, "sound", *(EXPECTED.get((name, fault), "–") for fault in faults)]


def test_the_results_hold_all_that_was_measured(whole: Whole) -> None:
    results = read_results(whole.out / "results.json")
    assert results.finished
    assert (whole.out / "report.html").stat().st_size > 0
    assert results.seed == 7
    assert results.machine.versions.keys() >= {"celery", "kombu", "rabbitmq"}
    assert sorted(run.order for run in results.runs) == list(range(len(results.runs)))
    assert list(results.accepted_means) == list(dict.fromkeys(name for name, _ in EXPECTED))
    for name in results.accepted_means:
        mine = [run for run in results.runs if run.transport == name]
        flat = [run for run in mine if run.measure is RunKind.FLAT_OUT]
        (fixed,) = [run for run in mine if run.measure is RunKind.FIXED_RATE]
        assert [run.counts.eaten for run in flat] == [60, 60]
        assert all(sum(run.eaten_by.values()) == 60 and set(run.eaten_by) <= {"小明", "小红"} for run in flat)
        assert all(run.accepted_per_second > 0 and run.eaten_per_second > 0 for run in flat)
        assert fixed.latency is not None
        assert 0 < fixed.latency.p50 <= fixed.latency.p99 <= fixed.latency.max
        assert 20 < fixed.latency.offered_per_second < 50
        assert fixed.usage is not None
        store = {"store"} if name in {"manager-queue", *ON_A_BROKER} else set()
        assert set(fixed.usage.peak_memory) == {"producer", "consumer"} | store
        assert fixed.usage.cpu_seconds_per_10000 > 0
        assert (fixed.timeline[-1].accepted, fixed.timeline[-1].eaten) == (99, 99)


def test_trays_are_sound_on_a_queue_and_on_celery() -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    work = ["--per-producer", "200", "--repeat", "1", "--fault", "none", "--tray", "20", "--json"]
    results = ComparisonResults.model_validate_json(compare("queue", "celery", *work))
    assert {run.transport for run in results.runs} == {"queue", "celery"}
    for run in results.runs:
        assert run.verdict == "sound", run
        assert run.workload is not None
        assert run.workload.tray == (20 if run.measure is RunKind.FLAT_OUT else 1)


def test_a_verdict_other_than_the_expected_one_is_shown_and_ends_with_1() -> None:
    # More than a locked file can carry in three seconds, and with a fixed rate that takes less than that.
    slow = ["--per-producer", "20000", "--repeat", "1", "--deadline", "3", "--fault", "none"]
    table = compare("file-lock", *slow, code=1)
    # Printed row by row where two verdicts are too wide for a column.
    assert re.search(r"^ ?file-lock\b[^–]*\bwedged\b.*\(!\)", table, re.MULTILINE)
    assert "file-lock, flat out: wedged instead of sound" in table


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["qeue"], "There is no transport 'qeue'; there are file-lock, .*, celery-trays."),
        (
            ["--fault", "kill-all"],
            "There is no fault 'kill-all'; there are kill-busy-consumer, .*, and none.",
        ),
        (["--eat-seconds", "9", "--deadline", "5"], "The workload cannot end: .*"),
        (["queue", "--fault", "kill-store"], "None of these transports has a process that stores .*"),
        (["queue", "--out", "/proc/of-nobody"], "The folder /proc/of-nobody cannot be written: .*"),
        (["queue", "--open"], "--open needs a report: give its folder with --out DIR."),
        (["queue", "--producers", "0"], ".*--producers.*"),
        (["queue", "--rate", "nan"], ".*rate.*"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str) -> None:
    said = compare(*arguments, code=2)
    assert len(said.splitlines()) == 1
    assert re.fullmatch(sentence, said.strip())


@contextmanager
def short_folder() -> Iterator[str]:
    """A place for temporary files whose name is short enough for a Unix socket's."""
    folder = tempfile.mkdtemp(prefix="b-")
    yield folder
    shutil.rmtree(folder)


def processes_of(folder: str) -> list[psutil.Process]:
    """Every living process that has ``folder`` in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(value.startswith(folder) for value in process.environ().values()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("runs", [0, 1, 3])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_complete_runs_and_no_process(
    runs: int, number: signal.Signals, tmp_path: Path
) -> None:
    names = ["queue", "manager-queue"] + (["celery"] if private_node.server() else [])
    results = tmp_path / "results.json"
    with short_folder() as folder:
        running = subprocess.Popen(
            command(*names, "--out", str(tmp_path), "--seed", "1"),
            env=environment(TMPDIR=folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: results.exists() and len(read_results(results).runs) >= runs, f"{runs} runs", 90)
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
        assert running.returncode == 130, said
        assert "Traceback" not in said
        wait_until(lambda: not processes_of(folder), "all processes to be gone", 5)
        assert not list(Path(folder).glob("baozi-*")), "a folder was left"
    left = read_results(results)
    assert not left.finished
    assert len(left.runs) >= runs
