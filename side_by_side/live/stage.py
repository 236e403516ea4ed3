"""The stage of ``baozi demo --watch``: both sides, and the requests of the page.

The processes are started in one thread, that of :meth:`Stage.perform`. The server's threads hand over what
the page requests, and wait for the answer. A request names a side, a role and a name, never a process id.
"""

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from baozi.broker.temporary import TemporaryBroker, temporary_broker
from baozi.errors import BaoziError, UsageError
from baozi.status import Part
from baozi.watch.feed import LiveSource
from baozi.workload import Workload
from side_by_side.live.celery_side import CelerySide
from side_by_side.live.queue_side import QueueSide
from side_by_side.live.side import LiveSide
from side_by_side.local_transport import start_fork_server

#: Seconds between two steps; between two readings for the page.
_TICK, _READ_EVERY = 0.05, 0.25
#: Seconds that a request may take.
_PATIENCE = 30
#: The sides, from left to right.
LEFT, RIGHT = "left", "right"


@dataclass(frozen=True)
class _Request:
    work: Callable[[], None]
    answer: "Future[None]"


class Stage:
    """The processes of the demo. The end of the ``with`` block kills all of them."""

    def __init__(self, workload: Workload) -> None:
        """Create an empty stage for rounds of this workload."""
        self._workload = workload
        self._stack = ExitStack()
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._sides: dict[str, LiveSide] = {}
        self._rounds = 0
        self._home: Path
        self._broker: TemporaryBroker

    def __enter__(self) -> Self:
        """Start RabbitMQ.

        Raises:
            NoBroker, BrokerError: there is none, or it does not start.
        """
        self._home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="baozi-")))
        try:
            start_fork_server(self._home / "stderr.log")
            self._broker = self._stack.enter_context(temporary_broker())
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill all processes."""
        self._close_sides()
        self._stack.close()

    def sources(self) -> list[LiveSource]:
        """Return what the page reads."""
        return [
            LiveSource(name, lambda name=name: self._state(name), _READ_EVERY)  # type: ignore[misc]  # mypy takes no lambda with a default
            for name in (LEFT, RIGHT)
        ]

    def actions(self) -> Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """Return what the page may request."""
        return {"start": self._request_start, "act": self._request_act}

    def perform(self) -> None:
        """Do what the page requests, until Ctrl-C."""
        while True:
            with suppress(Empty):
                request = self._requests.get(timeout=_TICK)
                try:
                    request.work()
                except BaoziError as error:
                    request.answer.set_exception(error)
                else:
                    request.answer.set_result(None)
            self._step()

    def _step(self) -> None:
        sides = list(self._sides.values())
        try:
            self._begin(sides)
            for side in sides:
                side.step()
        except BaoziError as error:  # RabbitMQ was killed before the workers were ready, for example
            for side in sides:
                side.problem = error.sentence

    def _begin(self, sides: list[LiveSide]) -> None:
        """Start the producers: on the right first, and on the left when those have made a baozi."""
        if not all(side.began or side.ready() for side in sides):
            return
        for place, side in enumerate(sides):
            if not side.began and all(slower.is_making() for slower in sides[place + 1 :]):
                side.begin()

    def _state(self, name: str) -> Part:
        side = self._sides.get(name)
        return side.state() if side else Part()

    def _request_start(self, _wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._ask(self._start)

    def _request_act(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        side = self._sides.get(str(wanted.get("side")))
        if side is None:
            raise UsageError("This cannot be done now.")
        doing, role, name = (str(wanted.get(key)) for key in ("doing", "role", "name"))
        return self._ask(lambda: side.act(doing, role, name))

    def _ask(self, work: Callable[[], None]) -> Mapping[str, Any]:
        request = _Request(work, Future())
        self._requests.put(request)
        request.answer.result(_PATIENCE)
        return {}

    def _start(self) -> None:
        """Begin a round, in which both sides do the same work."""
        self._close_sides()
        self._rounds += 1
        folder = self._home / str(self._rounds)
        sides: dict[str, LiveSide] = {
            LEFT: QueueSide(self._workload, folder / LEFT),
            RIGHT: CelerySide(self._workload, folder / RIGHT, self._broker),
        }
        self._sides = sides
        for side in sides.values():
            side.open()

    def _close_sides(self) -> None:
        sides, self._sides = self._sides, {}
        for side in sides.values():
            side.close()
