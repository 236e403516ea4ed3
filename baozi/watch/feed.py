"""Reads sources again and again while a page is open, and gives each viewer the newest reading of each.

Without a viewer, nothing is read. Each source has its own thread, so that one that fails or hangs does not
stop the others.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from baozi.errors import BaoziError, ExitCode
from baozi.language import Sentence, in_each_language
from baozi.shown import to_json
from baozi.status import Part

#: A source may be read again after so many times the time that its reading took. So however slow a query
#: becomes, it takes at most one part in 40 of one processor: 2.5 %.
_TIMES_AS_LONG = 40
#: When a source is due that is being read.
_BEING_READ = math.inf


@dataclass(frozen=True)
class LiveSource:
    """Something that is read again and again."""

    name: str
    read: Callable[[], Part]
    """Returns its state. Its errors are shown, too."""
    every: float
    """Seconds between two readings, at least."""
    clock: Callable[[], float] = time.monotonic
    """Measures what a reading costs. ``time.thread_time`` for a source that mostly waits for answers."""


class Viewer:
    """Somebody who looks. Only the newest reading of each source is kept, so a slow one needs no memory."""

    def __init__(self, wake: Callable[[], object]) -> None:
        """Call ``wake``, in any thread, when there is something new to take."""
        self._wake = wake
        self._new: dict[str, str] = {}
        self._lock = threading.Lock()

    def give(self, name: str, reading: str) -> None:
        """Add a reading, as JSON."""
        with self._lock:
            self._new[name] = reading
        self._wake()

    def take(self) -> list[str]:
        """Return the readings that came since the last call."""
        with self._lock:
            taken, self._new = list(self._new.values()), {}
        return taken


class Feed:
    """The readings of all sources, for any number of viewers."""

    def __init__(self, sources: Iterable[LiveSource]) -> None:
        """Use ``sources``. Nothing is read before :meth:`start`, and before there is a viewer."""
        self._sources = {source.name: source for source in sources}
        self._viewers: set[Viewer] = set()
        self._newest: dict[str, str] = {}
        self._due: dict[str, float] = dict.fromkeys(self._sources, 0)
        self._changed = threading.Condition()
        self.readings = 0
        """How many readings were made."""

    def start(self) -> None:
        """Start a thread for each source. They end with the process."""
        for source in self._sources.values():
            threading.Thread(target=self._keep_reading, args=(source,), name=source.name, daemon=True).start()

    def add(self, viewer: Viewer) -> None:
        """Give ``viewer`` the newest readings now, and each new one until it is removed."""
        with self._changed:
            for name, reading in self._newest.items():
                viewer.give(name, reading)
            self._viewers.add(viewer)
            self._changed.notify_all()

    def remove(self, viewer: Viewer) -> None:
        """Give ``viewer`` no more readings."""
        with self._changed:
            self._viewers.discard(viewer)

    @property
    def viewers(self) -> int:
        """How many look now."""
        return len(self._viewers)

    def read_again(self, name: str) -> bool:
        """Read a source at once, if a page is open. Return whether there is such a source."""
        with self._changed:
            if name not in self._sources:
                return False
            self._due[name] = 0
            self._changed.notify_all()
        return True

    def snapshot(self, timeout: float) -> dict[str, Part]:
        """Read all sources once, at the same time, and return their states by name.

        Args:
            timeout: seconds within which each must answer.
        """
        answers: SimpleQueue[tuple[str, Part]] = SimpleQueue()

        def read(source: LiveSource) -> None:
            answers.put((source.name, state_of(source)))

        for source in self._sources.values():
            threading.Thread(target=read, args=(source,), daemon=True).start()
        late = Part(
            problem=Sentence("It did not answer within {seconds:g} s.", seconds=timeout),
            exit_code=ExitCode.UNHEALTHY,
        )
        states = dict.fromkeys(self._sources, late)
        deadline = time.monotonic() + timeout
        for _ in self._sources:
            try:
                name, state = answers.get(timeout=max(0, deadline - time.monotonic()))
            except Empty:
                break
            states[name] = state
        return states

    def _keep_reading(self, source: LiveSource) -> None:
        while True:
            self._wait_until_due(source.name)
            began, clock_began = time.monotonic(), source.clock()
            reading = to_json(as_reading(state_of(source), source))
            cost = source.clock() - clock_began
            with self._changed:
                self.readings += 1
                self._newest[source.name] = reading
                # Unless it was asked for again meanwhile.
                if self._due[source.name] == _BEING_READ:
                    self._due[source.name] = began + max(source.every, cost * _TIMES_AS_LONG)
                for viewer in self._viewers:
                    viewer.give(source.name, reading)

    def _wait_until_due(self, name: str) -> None:
        with self._changed:
            while True:
                left = self._due[name] - time.monotonic()
                if self._viewers and left <= 0:
                    self._due[name] = _BEING_READ
                    return
                self._changed.wait(left if self._viewers else None)


def state_of(source: LiveSource) -> Part:
    """Read a source. An error becomes its problem, in a sentence."""
    try:
        return source.read()
    except BaoziError as error:
        return Part(problem=error.sentence, exit_code=error.exit_code)
    except Exception as error:  # the other sources must not be lost with this one
        problem = Sentence("Unexpected {error}: this is a bug.", error=type(error).__name__)
        return Part(problem=problem, exit_code=ExitCode.BUG)


def as_reading(state: Part, source: LiveSource) -> Mapping[str, Any]:
    """Return what a page gets of a source."""
    return {
        "name": source.name,
        "problem": None if state.problem is None else in_each_language(state.problem),
        "facts": state.facts,
        "read_at": time.time(),
        "every": source.every,
    }
