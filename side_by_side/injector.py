"""Injects a fault into a run at its moment, and ends the run if nothing happens any more."""

import random
import time

from baozi.errors import DeadlinePassed
from side_by_side.faults.fault import Effect, Fault
from side_by_side.observed_run import ObservedRun


class Injector:
    """Injects a fault at its moment, and then checks that the run goes on."""

    def __init__(self, fault: Fault[ObservedRun], patience: float) -> None:
        """Take the ``fault``. A run without an event for ``patience`` seconds after it is wedged."""
        self.effect: Effect | None = None
        """What the injection did; None before it."""
        self.repaired_at: float | None = None
        """When the injection returned, in seconds since 1970: a killed store is back by then."""
        self._fault = fault
        self._chance = random.Random(fault.name)
        self._patience = patience
        self._size = 0
        self._grew_at = 0.0

    @property
    def at(self) -> float | None:
        """When the fault was injected, in seconds since 1970; None before it."""
        return self.effect.at if self.effect else None

    def tick(self, run: ObservedRun) -> None:
        """Inject the fault if its moment has come. After it, end a run in which nothing happens any more.

        Raises:
            DeadlinePassed: nothing has happened for ``patience`` seconds since the fault.
            BaoziError: the killed store does not start again.
        """
        if self.effect is None:
            self.effect = self._fault.inject(run, self._chance)
            self.repaired_at = time.time()
            self._grew_at = time.monotonic()
            return
        size = sum(path.stat().st_size for path in run.folder.rglob("*.journal"))
        if size != self._size:
            self._size, self._grew_at = size, time.monotonic()
        elif time.monotonic() - self._grew_at > self._patience:
            raise DeadlinePassed(
                "Nothing has happened for {patience:g} s: the run is wedged.", patience=self._patience
            )
