"""What a worker says of what went wrong: the exception's own words, harmless in a log, and an exit code."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.errors import ExitCode
from side_by_side.celery_processes import start_worker
from tests.integration.place import Place
from tests.integration.raised import CONTROLS, RAISED
from tests.waiting import wait_until


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_dead_letter_has_its_exception_s_own_type_and_text_and_the_end_of_its_traceback(
    private_place: Place, pool: str
) -> None:
    place = private_place
    place.produce("r", "egon", len(RAISED))
    worker = place.worker("小明", pool, changes=("each_raises",), journal=place.home)
    wait_until(lambda: place.waiting("baozi.dead") == len(RAISED), "all to be dead", 60)
    listed = place.run("dead", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    letters = {letter["baozi"]: letter for letter in map(json.loads, listed.stdout.splitlines())}
    shown = place.run("dead", "show", *(letter["id"] for letter in letters.values()), "--json")
    tracebacks = {letter["id"]: letter["traceback"] for letter in map(json.loads, shown.stdout.splitlines())}
    assert "baozi-traceback" not in shown.stdout
    for number, (name, (_, reason)) in enumerate(RAISED.items()):
        letter = letters[f"r/egon/{number}"]
        assert letter["reason"].startswith(reason), name
        assert len(letter["reason"]) <= 1000
        assert 20 < len(tracebacks[letter["id"]]) <= 4000
        assert "raise make()" in tracebacks[letter["id"]] or name in {"huge", "group"}
    log = worker.log.read_text(errors="surrogateescape")
    assert "HTTP Error 404" in log
    assert not re.findall(r"^2026-01-01 forged", log, re.MULTILINE)
    for letter_ in ("\x1b]0;", "\x1b[2J", "\u202e", "\x9b", "\x07"):
        assert letter_ not in log, ascii(letter_)


def test_a_message_s_own_text_forges_no_line_of_the_log(private_place: Place) -> None:
    place, text = private_place, CONTROLS.removesuffix("\udc80")
    place.produce("other", "egon", 1)
    worker = start_worker(place.process_group, "小明", place.environment(tray=1), changes=("-l", "INFO"))
    wait_until(lambda: place.consumers() == 1, "the worker to consume", 60)
    with place.producer() as producer:
        for number, name in enumerate(("id", "task", "argsrepr", "eta", "shadow", "origin")):
            item = {"run": "r", "producer": "egon", "number": number, "made_at": 1.0}
            place.send_eat(producer, item, more_headers={name: text})
        place.send_eat(producer, {"run": text, text: 1})
    wait_until(lambda: place.waiting() == 0 and place.waiting("baozi.dead") >= 3, "all to be dead or eaten")
    log = worker.log.read_text(errors="surrogateescape")
    assert not re.findall(r"^2026-01-01 forged", log, re.MULTILINE)
    for letter in ("\x1b]0;", "\x1b[2J", "\u202e", "\x9b", "\x07"):
        assert letter not in log, ascii(letter)


def worker(place: Place, *arguments: str, **settings: object) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tasks",
        "worker",
        "-c",
        "1",
        *arguments,
    ]
    return subprocess.Popen(
        command,
        env={**os.environ, **place.environment(**settings)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--logfile", "/no/such/folder/log"),
        ("--pool", "no_such_pool"),
        ("--pool", "no.such:Pool"),
        ("--statedb", "/no/such/folder/state"),
        ("--concurrency", "many"),
        ("--max-tasks-per-child", "x"),
        ("-Q", "other"),
        ("--no-such-option",),
        ("-l", "LOUD"),
    ],
)
def test_a_worker_that_cannot_start_does_not_exit_as_if_there_were_a_loss(
    private_place: Place, arguments: tuple[str, ...]
) -> None:
    process = worker(private_place, *arguments)
    said, _ = process.communicate(timeout=60)
    assert process.returncode in {ExitCode.USAGE, ExitCode.BUG}, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_that_is_stopped_does_not_exit_as_if_there_were_a_loss(
    private_place: Place, number: signal.Signals, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process = worker(private_place, "--logfile", str(log))
    try:
        wait_until(lambda: private_place.consumers() == 1, "the worker to consume", 60)
        process.send_signal(number)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode in {ExitCode.OK, ExitCode.INTERRUPTED}
