"""How many messages of a task a batch takes: as many as the function executes in a given time.

The size starts at 1 and at most doubles from one batch to the next. It falls at once: a function that took as
long as a whole batch may, or that failed, has its next messages executed alone.
"""

from collections.abc import Sequence

#: The most messages of a batch whose size is measured. Larger ones save little (docs/speed.md), and after a
#: kill more messages are executed again.
LARGEST = 100
#: How many times larger than the last batch the next one may be.
_GROWTH = 2


class BatchSize:
    """The size of the next batch of one task."""

    def __init__(self, limit: int, longest_s: float | None = None) -> None:
        """Start with one message, or with ``limit`` if the size is fixed.

        Args:
            limit: the most messages of a batch.
            longest_s: seconds that the functions of a batch may take. None: the size is ``limit``, always.
        """
        self._limit = limit
        self.longest_s = longest_s
        """Seconds that the functions of a batch may take; None if the size is fixed."""
        self.now = limit if longest_s is None else 1
        """The most messages of the next batch."""

    @property
    def is_measured(self) -> bool:
        """Whether the size depends on what the functions take."""
        return self.longest_s is not None

    def executed(self, seconds: Sequence[float], failed: bool) -> None:
        """Note a batch.

        Args:
            seconds: what each function took that succeeded.
            failed: whether some message of the batch must be executed again.
        """
        if self.longest_s is None:
            return
        if failed or not seconds or max(seconds) >= self.longest_s:
            self.now = 1
            return
        mean = sum(seconds) / len(seconds)
        allowed = self.longest_s / mean if mean > 0 else self._limit
        self.now = max(1, int(min(allowed, self._limit, self.now * _GROWTH)))

    def executed_alone(self, seconds: float) -> None:
        """Note a message that Celery executed alone, and that succeeded.

        Its time includes the commit. So it only says whether two may be tried together; their batch says
        what the function itself takes.
        """
        if self.longest_s is not None and self.now == 1 and seconds < self.longest_s:
            self.now = min(_GROWTH, self._limit)
