"""Records what happens to each task of the user's app, through Celery's signals.

Each process appends to a separate file, with one unbuffered write for each event. So ``kill -9`` loses no
event that was recorded. Nothing else of the app is changed, unless fixes are wanted.
"""

import json
import os
import secrets
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from baozi.prove.plugin import Configuration

#: Exit code of a worker that would use another broker.
OTHER_BROKER = 3


class EventFile:
    """The record file of this process. A forked process begins a new file."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder. A file is created by the first event."""
        self._folder = folder
        self._file, self._pid = -1, 0

    def write(self, event: str, task_id: str = "", **facts: Any) -> None:
        """Append one event, in one write."""
        pid = os.getpid()
        if pid != self._pid:
            name = self._folder / f"{pid}-{secrets.token_hex(4)}.jsonl"
            self._file = os.open(name, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            self._pid = pid
        line = {"at": time.time(), "event": event, "id": task_id, "pid": pid, **facts}
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")


def connect(signals: ModuleType, configuration: Configuration) -> None:
    """Connect to Celery's signals in ``signals``, which is ``celery.signals``."""
    recorder = _SignalRecorder(configuration)
    for name, receiver in {
        "celeryd_init": recorder.on_init,
        "worker_init": recorder.on_options,
        "worker_ready": recorder.on_ready,
        "worker_shutdown": recorder.on_shutdown,
        "task_received": recorder.on_received,
        "task_prerun": recorder.on_started,
        "task_success": recorder.on_success,
        "task_failure": recorder.on_failure,
        "task_retry": recorder.on_retry,
        "task_revoked": recorder.on_revoked,
    }.items():
        getattr(signals, name).connect(receiver, weak=False)


class _SignalRecorder:
    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._events = EventFile(Path(configuration.records))

    def on_init(self, instance: Any = None, **_: Any) -> None:
        """Prepare the app before the worker reads its settings."""
        from baozi.prove import tasks  # noqa: PLC0415  # the app has imported Celery by now
        from baozi.prove.advice import use_broker, write_over  # noqa: PLC0415  # the same

        used = use_broker(instance.app, self._configuration.broker_url)
        if used is not None:
            self._events.write("other broker", url=used)
            os._exit(OTHER_BROKER)
        write_over(instance.app, self._configuration.change)
        tasks.add_to(instance.app)

    def on_options(self, sender: Any = None, **_: Any) -> None:
        """Change the worker's options. Its command line has read their defaults before ``on_init``."""
        for name, value in self._configuration.change.settings.items():
            option = name.removeprefix("worker_")
            if option != name and hasattr(sender, option):
                setattr(sender, option, value)

    def on_ready(self, sender: Any = None, **_: Any) -> None:
        controller = getattr(sender, "controller", None)
        queues = getattr(getattr(sender, "task_consumer", None), "queues", ())
        self._events.write(
            "ready",
            queues=[queue.name for queue in queues],
            concurrency=getattr(controller, "concurrency", None),
            pool=str(getattr(getattr(controller, "pool_cls", None), "__module__", "")),
        )

    def on_shutdown(self, **_: Any) -> None:
        self._events.write("shutdown")

    def on_received(self, request: Any = None, **_: Any) -> None:
        delivery = getattr(request, "delivery_info", None) or {}
        self._events.write("received", request.id, redelivered=bool(delivery.get("redelivered")))

    def on_started(self, task_id: str = "", task: Any = None, **_: Any) -> None:
        self._events.write("started", task_id, task=getattr(task, "name", ""))

    def on_success(self, sender: Any = None, **_: Any) -> None:
        self._events.write("succeeded", sender.request.id)

    def on_failure(self, task_id: str = "", exception: Any = None, **_: Any) -> None:
        self._events.write("failed", task_id, error=type(exception).__name__, why=str(exception)[:200])

    def on_retry(self, request: Any = None, **_: Any) -> None:
        self._events.write("retried", request.id)

    def on_revoked(self, request: Any = None, **_: Any) -> None:
        self._events.write("revoked", request.id)
