"""How many messages a worker prefetches: two batches for each pool process, and no more.

A message that waits in a worker cannot be executed by another one that is idle. So the worker prefetches many
messages only while the functions are fast.
"""

import time
from collections.abc import Callable

from baozi.worker.batch_size import BatchSize

#: The number changes in steps of this factor, because each change is a new consumer of the queue.
_STEP = 4
#: Seconds for which fewer messages must have been enough before fewer are prefetched. One slow message among
#: fast ones changes nothing.
_CALM_S = 1.0


class Prefetch:
    """The number of messages that are prefetched for each pool process."""

    def __init__(self, least: int, largest: int, longest_s: float, change: Callable[[int], object]) -> None:
        """Start with ``least``.

        Args:
            least: messages for each pool process while functions are slow.
            largest: the most messages of a batch.
            longest_s: seconds that the functions of a batch may take.
            change: called with a new number of messages for each pool process.
        """
        self.size = BatchSize(largest, longest_s)
        """The size that batches would have if all tasks were one task."""
        self.now = least
        """Messages for each pool process."""
        self._least = least
        self._largest = largest
        self._change = change
        self._needed_at = time.monotonic()

    def adapt(self) -> bool:
        """Change the number if the batches need another one now. Return whether it is smaller than before."""
        wanted, before, now = self._wanted(self.size.now), self.now, time.monotonic()
        is_smaller = wanted < before and now - self._needed_at >= _CALM_S
        if wanted >= before or is_smaller:
            self._needed_at = now
        if wanted > before or is_smaller:
            self.now = wanted
            self._change(wanted)
        return is_smaller

    def _wanted(self, size: int) -> int:
        if size == 1:
            return self._least
        step = _STEP
        while step < size:
            step *= _STEP
        return max(self._least, 2 * min(step, self._largest))
