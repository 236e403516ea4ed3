"""Dangers of messages that another program sends."""

import json
import uuid
import zlib
from typing import Any

from amqp import Message

from baozi.prove.dangers.demonstration import demonstrates
from baozi.prove.dangers.trial import WORK, DangerTrial

_STOCK = """
@app.task
def work(letters=""):
    pass
"""
_RELIABLE = """
reliable = Reliable(app, queue="shop")


@reliable.task
def work(letters: str = ""):
    pass
"""


def _send(trial: DangerTrial, body: bytes, **headers: Any) -> None:
    """Send a message of Celery's protocol to the queue of the task, as any program can."""
    headers = {"task": WORK, "id": str(uuid.uuid4()), "lang": "py", **headers}
    message = Message(
        body, content_type="application/json", content_encoding="utf-8", application_headers=headers
    )
    with trial.channel() as channel:
        channel.basic_publish(message, routing_key="shop" if trial.fixed else "work")


@demonstrates(
    "BZ138",
    "MB in the worker",
    tasks=_STOCK,
    fix="",
    fixed_tasks=_RELIABLE,
    most=200,
    finds=(),
)
def compressed(trial: DangerTrial) -> int:
    """A message of 150 kB inflates to 150 MB."""
    worker = trial.start_worker()
    _send(
        trial, zlib.compress(b'[["' + b"x" * 150_000_000 + b'"], {}, {}]'), compression="application/x-gzip"
    )
    return trial.peak_memory(worker, 8) // 10**6


@demonstrates(
    "BZ139",
    "workers that one message ends",
    tasks=_STOCK,
    fix="",
    fixed_tasks=_RELIABLE,
    of=2,
    finds=(),
)
def malformed(trial: DangerTrial) -> int:
    """A message with the header `timelimit: [null]` is sent to two workers."""
    workers = [trial.start_worker(), trial.start_worker()]
    _send(trial, json.dumps([[], {}, {}]).encode(), timelimit=[None])
    trial.within(8, lambda: all(it.process.poll() is not None for it in workers))
    return sum(it.process.poll() is not None for it in workers)
