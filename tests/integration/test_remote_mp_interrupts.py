"""remote_mp: an interrupt at any moment loses no item and leaves no lock locked."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remote_mp import JoinableQueue
from tests.integration.place import Place
from tests.integration.remote_queues import run_program

BLOCKED = """
import os, signal, sys, threading
from remote_mp import JoinableQueue, Queue
q = JoinableQueue({maxsize}, name="q", window={window})
{before}
signal.setitimer(signal.ITIMER_REAL, 1)
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
{after}
"""


@pytest.mark.parametrize(
    ("call", "before", "after", "maxsize", "window"),
    [
        ("q.get()", "", "q.put(1); print(q.get(timeout=30))", 0, 1),
        ("q.get()", "", "q.put(1); print(q.get(timeout=30))", 3, 1),
        ("q.get(timeout=60)", "", "q.put(1); print(q.get(timeout=30))", 0, 100),
        ("q.put(2)", "q.put(1)", "print(q.get(timeout=30)); q.put(3); q.get(timeout=30)", 1, 1),
        ("q.put(2, timeout=60)", "q.put(1)", "print(q.get(timeout=30)); q.put(3); q.get(timeout=30)", 1, 1),
        ("q.join()", "q.put(1)", "print(q.get(timeout=30)); q.task_done(); q.join(30)", 0, 1),
        ("q.join(60)", "q.put(1)", "print(q.get(timeout=30)); q.task_done(); q.join(30)", 0, 100),
    ],
)
def test_an_interrupt_ends_each_wait_and_the_queue_still_works(
    call: str, before: str, after: str, maxsize: int, window: int, private_place: Place
) -> None:
    program = BLOCKED.format(call=call, before=before, after=after, maxsize=maxsize, window=window)
    done = run_program(program, private_place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "interrupted\n1\n"


INTERRUPTED = """
import json, queue, signal, sys
from remote_mp import JoinableQueue, Queue
q = {queue}
signal.signal(signal.SIGALRM, signal.default_int_handler)
got, interrupted = [], 0
while interrupted < 60:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.0005 * (interrupted % 10))
        while True:
            # One expression: no interrupt comes between the return of get and the call of append.
            got.append(q.get({arguments}))
            {then}
    except (KeyboardInterrupt, queue.Empty):
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print("interrupted", flush=True)
count = int(sys.stdin.readline())
try:
    while len(got) < count:
        got.append(q.get(timeout=10))
        {then}
except queue.Empty:
    pass
try:
    while {then!r} != "pass":
        {then}
except ValueError:  # all items are finished
    pass
print(json.dumps(got))
"""


@pytest.mark.parametrize(
    ("queue_of_the_process", "arguments", "then"),
    [
        ('Queue({maxsize}, name="q", acknowledge="next")', "", "pass"),
        ('Queue({maxsize}, name="q")', "", "pass"),
        ('Queue({maxsize}, name="q")', "timeout=0.001", "pass"),
        ('JoinableQueue({maxsize}, name="q")', "", "q.task_done()"),
        ('JoinableQueue({maxsize}, name="q")', "False", "q.task_done()"),
    ],
    ids=["next", "get", "get, a short timeout", "joinable", "joinable, no wait"],
)
@pytest.mark.parametrize(("maxsize", "window"), [(0, 1), (0, 100), (3, 1)])
def test_interrupts_at_any_moment_of_get_lose_no_item(
    maxsize: int,
    queue_of_the_process: str,
    arguments: str,
    then: str,
    window: int,
    private_place: Place,
    make_queue_here: Callable[..., Any],
) -> None:
    """An item that an interrupted ``get`` had taken is the next that the same process gets."""
    program = INTERRUPTED.format(
        queue=queue_of_the_process.format(maxsize=maxsize), arguments=arguments, then=then
    )
    source = make_queue_here(maxsize, window=window)
    stop = threading.Event()
    put: list[int] = []

    def feed() -> None:
        number = 0
        while not stop.is_set():
            try:
                source.put(number, timeout=0.2)
            except queue.Full:
                continue
            put.append(number)
            number += 1
            if window > 1:
                stop.wait(0.0005)  # else it puts a hundred times as many as are got

    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **private_place.environment()},
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        stop.set()
        feeding.join(60)
        out, err = process.communicate(f"{len(put)}\n", timeout=120)
    finally:
        stop.set()
        process.kill()
        process.wait()
        feeding.join(60)
    assert (process.returncode, first, err) == (0, "interrupted\n", "")
    assert sorted(json.loads(out)) == put
    if then != "pass":
        source.join(30)


def test_one_interrupt_ends_a_process_with_unsent_items_and_loses_none(private_place: Place) -> None:
    program = """
import time
from remote_mp import Queue
q = Queue(name="q", window=1000)
for number in range(1000):
    q.put(number)
print("put", flush=True)
# Not one long sleep: Python notices no signal that comes while it gives its lock to another thread, as it
# does before it sleeps.
while True:
    time.sleep(0.05)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **private_place.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "put\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    reader = JoinableQueue[int](name="q", url=private_place.url)
    with reader:
        assert [reader.get(timeout=30) for _ in range(1000)] == list(range(1000))
