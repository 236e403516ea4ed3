"""After a commit or a confirm, nothing that is printed or written down changes a message's outcome."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from tests.integration.place import Place
from tests.waiting import wait_until

COUNT = 6

#: An output that does not take what is printed: its name, and what else the environment has.
OUTPUTS: dict[str, dict[str, str]] = {
    "a closed pipe": {},
    "/dev/full": {},
    "a closed file descriptor": {},
    "a file opened to read": {},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1, strict": {"PYTHONIOENCODING": "latin-1:strict"},
    "utf-16": {"PYTHONIOENCODING": "utf-16"},
    "the C locale": {"LC_ALL": "C", "LANG": "C"},
    "a closed pipe, unbuffered": {"PYTHONUNBUFFERED": "1"},
    "/dev/full, unbuffered": {"PYTHONUNBUFFERED": "1"},
}


@contextmanager
def started(output: str, environment: dict[str, str], *command: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program whose stdout is ``output``; kill it at the end if it still runs."""
    program = [sys.executable, "-W", "ignore", *command]
    kind = output.partition(",")[0]
    if kind == "a closed file descriptor":
        program = ["sh", "-c", 'exec "$@" >&-', "sh", *program]
    reading, writing = os.pipe()
    os.close(reading)
    path = {"/dev/full": "/dev/full", "a file opened to read": "/dev/null"}.get(kind)
    descriptor = writing
    if path is not None:
        descriptor = os.open(path, os.O_RDONLY if kind == "a file opened to read" else os.O_WRONLY)
    pipe = output in OUTPUTS and (path is not None or kind == "a closed pipe")
    process = subprocess.Popen(
        program,
        env={**os.environ, **environment, **OUTPUTS[output]},
        stdin=subprocess.DEVNULL,
        stdout=descriptor if pipe else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for one in {writing, descriptor}:
        os.close(one)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    complaint = process.communicate(timeout=60)[1]
    return process.returncode, complaint


# Each output with one of the two, in turn: a line is printed in the same way alone and in a batch.
@pytest.mark.parametrize(("output", "tray"), list(zip(OUTPUTS, cycle([1, 100]), strict=False)))
def test_a_worker_whose_output_fails_eats_all_and_dead_letters_nothing(
    private_place: Place, output: str, tray: int
) -> None:
    environment = private_place.environment(tray=tray)
    with started(output, environment, "-m", "celery", "--quiet", "-A", "tasks", "worker", "-c", "1"):
        private_place.produce("r", "alex", COUNT)
        wait_until(lambda: private_place.eaten("r") == COUNT, "all to be eaten", timeout=60)
        wait_until(private_place.all_acknowledged, "the worker to acknowledge all", timeout=30)
        assert private_place.waiting("baozi.dead") == 0
        sums = private_place.sums("r")
        assert sums is not None
        assert (sums.total.lost, sums.total.duplicated) == (0, 0)


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_worker_of_each_pool_ends_soon_when_it_is_stopped(private_place: Place, pool: str) -> None:
    command = ["-m", "celery", "--quiet", "-A", "tasks", "worker", "-c", "1", "-P", pool]
    with started("/dev/full", private_place.environment(), *command):
        private_place.produce("r", "alex", COUNT)
        wait_until(lambda: private_place.eaten("r") == COUNT, "all to be eaten", timeout=60)
        wait_until(private_place.all_acknowledged, "the worker to acknowledge all", timeout=30)
        assert private_place.waiting("baozi.dead") == 0


def test_a_worker_with_trays_of_a_producer_ends_soon_when_it_is_stopped(private_place: Place) -> None:
    environment = private_place.environment(eat_seconds=0.01)
    with started("/dev/full", environment, "-m", "celery", "--quiet", "-A", "tasks", "worker", "-c", "1"):
        private_place.produce("r", "alex", COUNT, "--tray", "3")
        wait_until(lambda: private_place.eaten("r") == COUNT, "all to be eaten", timeout=60)
        wait_until(private_place.all_acknowledged, "the worker to acknowledge all", timeout=30)
        assert private_place.waiting("baozi.dead") == 0


# Each output with one of the three, in turn: each of them is printed in the same way.
@pytest.mark.parametrize(
    ("output", "more"), list(zip(OUTPUTS, cycle([["--lines"], ["--json"], []]), strict=False))
)
def test_a_producer_whose_output_fails_is_accepted_and_closes_its_order(
    private_place: Place, output: str, more: list[str]
) -> None:
    order = ["--run", "r", "--name", "小李", "--count", str(COUNT)]
    with started(output, private_place.environment(), "-m", "baozi", "produce", *order, *more) as producer:
        code, said = ended(producer)
    # On a busy machine it has time to say how far it is.
    assert (code, [line for line in said.splitlines() if not line.endswith(" of 6 accepted")]) == (0, [])
    assert private_place.waiting() == COUNT + 1


@pytest.mark.parametrize("output", ["a closed pipe", "/dev/full", "a closed file descriptor"])
@pytest.mark.parametrize("what", ["replay", "drop"])
def test_dead_letters_are_replayed_or_dropped_although_the_output_is_closed(
    private_place: Place, output: str, what: str
) -> None:
    worker = private_place.worker("小明")
    with private_place.producer() as producer:
        for number in range(3):
            producer.publish({"not": number}, exchange="baozi", routing_key="baozi")
    wait_until(lambda: private_place.waiting("baozi.dead") == 3, "three dead letters")
    worker.process.terminate()
    worker.process.wait(30)
    letters = private_place.run("dead", "list", "--json").stdout.splitlines()
    ids = [json.loads(letter)["id"] for letter in letters]
    arguments = ["replay", "--all"] if what == "replay" else ["drop", "--yes", *ids]
    with started(output, private_place.environment(), "-m", "baozi", "dead", *arguments) as command:
        assert ended(command) == (0, "")
    assert private_place.waiting("baozi.dead") == 0
    assert private_place.waiting() == (3 if what == "replay" else 0)


@pytest.mark.parametrize("output", ["a closed pipe", "/dev/full"])
def test_a_list_that_cannot_be_read_is_an_error(private_place: Place, output: str) -> None:
    private_place.produce("r", "alex", 1)
    with started(output, private_place.environment(), "-m", "baozi", "dead", "list") as command:
        code, complaint = ended(command)
    assert code not in {0, 1}
    assert "Traceback" not in complaint


@pytest.mark.parametrize("output", ["ascii", "latin-1, strict", "the C locale"])
def test_the_audit_s_table_is_printed_in_every_encoding(private_place: Place, output: str) -> None:
    private_place.worker("小明")
    private_place.produce("包子", "小李", COUNT)
    audit = ["-m", "baozi", "audit", "包子", "--wait", "30"]
    with started(output, private_place.environment(), *audit) as command:
        assert ended(command) == (0, "")


@pytest.mark.parametrize("tray", [1, 100])
@pytest.mark.parametrize("kind", ["full", "read-only", "a folder"])
def test_a_worker_that_cannot_write_its_journal_eats_all_and_reports_it(
    private_place: Place, tmp_path: Path, kind: str, tray: int
) -> None:
    folder = tmp_path / "journals" / "consumer"
    folder.mkdir(parents=True)
    journal = folder / "小明.journal"
    if kind == "full":
        journal.symlink_to("/dev/full")
    elif kind == "a folder":
        journal.mkdir()
    elif kind == "read-only":
        folder.rmdir()
        folder.symlink_to("/proc/self")
    worker = private_place.worker("小明", journal=tmp_path / "journals", tray=tray)
    private_place.produce("r", "alex", COUNT)
    wait_until(lambda: private_place.eaten("r") == COUNT, "all to be eaten", timeout=60)
    wait_until(private_place.all_acknowledged, "the worker to acknowledge all", timeout=30)
    assert private_place.waiting("baozi.dead") == 0
    assert worker.log.read_text().count("incomplete from here on") == 1
