"""Reads the record files of a trial, and follows each task id through them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: A task that ended with one of these did not end by itself: its process was killed.
_NOT_ITS_OWN = frozenset({"WorkerLostError", "Terminated", "TimeLimitExceeded"})


@dataclass
class CallHistory:
    """What is recorded about one call."""

    id: str
    number: int = 0
    accepted: bool = False
    refused: str = ""
    """The error that ``apply_async`` raised."""
    received: int = 0
    redelivered: int = 0
    started: int = 0
    retried: int = 0
    succeeded: int = 0
    failed: str = ""
    """The error that the task raised by itself."""
    lost_worker: bool = False
    """Whether Celery reported that its process was killed."""
    revoked: bool = False
    process: int | None = None
    """The process that executes it now."""

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, or failed by itself."""
        return bool(self.succeeded or self.failed or self.revoked)


@dataclass
class ReadyWorker:
    """A worker that has become ready, by its own record."""

    pid: int
    concurrency: int
    pool: str
    queues: Sequence[str] = ()
    """The queues that it consumes."""

    @property
    def has_children(self) -> bool:
        """Whether it executes tasks in processes of their own."""
        return self.pool.endswith("prefork")


@dataclass
class TrialRecords:
    """All that the processes of one trial have recorded so far."""

    folder: Path
    calls: dict[str, CallHistory] = field(default_factory=dict)
    """The calls of the producers, by their ids."""
    workers: list[ReadyWorker] = field(default_factory=list)
    produced: int = 0
    """How many producers have made all their calls."""
    calling: bool = False
    """Whether a producer is within a call."""
    count: int = 0
    """How many events there are."""
    other_broker: str = ""
    """The URL of another broker that a worker would have used."""
    seconds: list[float] = field(default_factory=list)
    """How long executions took."""
    _places: dict[Path, int] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _before: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read what was written since the last time."""
        events = [event for path in sorted(self.folder.glob("*.jsonl")) for event in self._new(path)]
        for event in sorted(events, key=lambda it: it["at"]):
            self.count += 1
            self._take(event)

    def _new(self, path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            file.seek(self._places.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):  # it is being written
                    return
                self._places[path] = self._places.get(path, 0) + len(line)
                yield json.loads(line)

    def _take(self, event: dict[str, Any]) -> None:
        kind, task_id = event["event"], event["id"]
        if not task_id:
            self._take_of_process(kind, event)
        elif kind == "attempted":
            self.calls[task_id] = CallHistory(task_id, event["number"])
            self.calling = True
            for earlier in self._before.pop(task_id, ()):
                self._take_of_call(self.calls[task_id], earlier)
        elif task_id in self.calls:
            self._take_of_call(self.calls[task_id], event)
        else:
            # Read before the line of its producer, which is in another file.
            self._before.setdefault(task_id, []).append(event)

    def _take_of_process(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "ready":
            self.workers.append(
                ReadyWorker(event["pid"], event["concurrency"] or 1, event["pool"], event["queues"])
            )
        elif kind == "produced":
            self.produced += 1
        elif kind == "other broker":
            self.other_broker = event["url"]

    def _take_of_call(self, call: CallHistory, event: dict[str, Any]) -> None:
        match event["event"]:
            case "accepted":
                call.accepted = True
                self.calling = False
            case "refused":
                call.refused = f"{event['error']}: {event['why']}"
                self.calling = False
            case "received":
                call.received += 1
                call.redelivered += bool(event["redelivered"])
            case "started":
                call.started += 1
                call.process = event["pid"]
                self._began[call.id] = event["at"]
            case "succeeded":
                call.succeeded += 1
                call.process = None
                self.seconds.append(event["at"] - self._began.get(call.id, event["at"]))
            case "retried":
                call.retried += 1
                call.process = None
            case "revoked":
                call.revoked = True
            case "failed":
                call.process = None
                if event["error"] in _NOT_ITS_OWN:
                    call.lost_worker = True
                else:
                    call.failed = f"{event['error']}: {event['why']}"

    def in_flight(self, alive: Iterable[int]) -> list[CallHistory]:
        """Return the calls that one of the processes ``alive`` executes now."""
        living = set(alive)
        return [it for it in self.calls.values() if it.process in living]
