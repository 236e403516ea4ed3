"""Publishes items in a thread, several in one message: ``put`` returns before the confirm."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from baozi.amqp.publisher import ConfirmedPublisher
from baozi.errors import BaoziError, MessageRefused
from remote_mp.condition import InterruptSafeCondition, start_thread
from remote_mp.connection_thread import check_not_own_thread, raise_copy, thread_error
from remote_mp.sending import OutgoingMessage, PutEndpoint

#: Most items, and most bytes, in one batch. Items that are put while the broker is busy are sent in one
#: message, because a message of fifty costs the broker little more than a message of one. If a process is
#: killed before it has finished all items of a batch, the whole batch is redelivered.
_BATCH_ITEMS, _BATCH_BYTES = 50, 1 << 16
#: Batches that may wait for their confirms at the same time.
_UNCONFIRMED_BATCHES = 16
#: Seconds before the thread tries again, after the broker was away for longer than the timeout.
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class _SentBatch:
    """Items that are published in one message, which is not confirmed yet."""

    first: int
    """The number of the first item; each next item has the next number."""
    items: Sequence[bytes]
    message: OutgoingMessage

    @property
    def numbers(self) -> range:
        """The numbers of its items."""
        return range(self.first, self.first + len(self.items))


class WindowSender:
    """A sender whose ``put`` gives the item to a thread and returns. The first ``put`` starts the thread.

    If an item is larger than every body that the broker has accepted so far, ``put`` waits for its confirm:
    only the broker knows whether it accepts that size, and the error belongs to that ``put``. Such an item is
    sent alone, because the broker refuses it by closing the channel, and then it confirms nothing of what was
    sent before.
    """

    def __init__(
        self,
        endpoint: PutEndpoint,
        window: int,
        timeout: float,
        on_refused: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Keep the arguments. The thread is not started yet.

        Args:
            endpoint: makes the messages and opens the channels.
            window: how many items may be put and not confirmed.
            timeout: how many seconds one exchange with the broker may take.
            on_refused: called with the number of an item that was refused after its ``put`` had returned.
        """
        self._endpoint = endpoint
        self._window = window
        self._timeout = timeout
        self._on_refused = on_refused
        self._condition = InterruptSafeCondition()
        self._waiting: deque[tuple[int, bytes]] = deque()
        """Numbers and items that are not published yet."""
        self._sent: dict[str, _SentBatch] = {}
        """The batches that are published and not confirmed, by message id."""
        self._publish_again = False
        """Whether the batches in ``_sent`` must be published again: the publisher has given them up."""
        self._unconfirmed = 0
        """How many items are put and not confirmed."""
        self._largest_accepted = 0
        """Bytes of the largest body that the broker has accepted."""
        self._awaited: set[int] = set()
        """The numbers of the items whose ``put`` waits for the confirm."""
        self._refused: dict[int, BaoziError] = {}
        """The errors of awaited items that were refused, by number."""
        self._refused_later: BaoziError | None = None
        """The error of an item that was refused after its ``put`` had returned. :meth:`flush` raises it."""
        self._error: BaoziError | None = None
        """Why the thread cannot publish at present, or has ended."""
        self._thread: threading.Thread | None = None
        self._running = False
        """Whether the thread runs. It is changed with ``_condition`` held, so that waiting calls notice."""
        self._closing = False
        self._give_up = threading.Event()
        self._publisher = ConfirmedPublisher[OutgoingMessage](
            endpoint.open,
            self._on_confirmed,
            _UNCONFIRMED_BATCHES,
            timeout,
            self._give_up,
            size=lambda it: len(it.body),
        )

    def put(self, number: int, item: bytes, _deadline: float | None) -> None:
        """Give one item to the thread. Waits while the window is full, and for the confirm of a large item.

        See :meth:`remote_mp.sending.Sender.put`.
        """
        size = self._endpoint.message_size(item)
        self._endpoint.check_size(size)

        def add() -> bool:
            if self._unconfirmed >= self._window:
                return False
            if size > self._largest_accepted:
                self._awaited.add(number)
            self._unconfirmed += 1
            self._waiting.append((number, item))
            self._condition.notify_all()
            return True

        try:
            self._start()
            self._wait_for(add)
            if number in self._awaited:
                self._wait_for(lambda: number not in self._awaited)
        finally:
            self._awaited.discard(number)
        if number in self._refused:
            raise self._refused.pop(number)

    def flush(self) -> None:
        """Return when all items that were put are in the queue.

        Raises:
            MessageRefused: an item was refused after its ``put`` had returned.
            BaoziError: as :meth:`put`.
        """
        if self._unconfirmed:
            self._start()
            self._wait_for(lambda: not self._unconfirmed)
        with self._condition:
            if self._refused_later is not None:
                error, self._refused_later = self._refused_later, None
                raise error

    def close(self, *, flush: bool) -> None:
        """Call :meth:`flush` if ``flush`` is set, and end the thread.

        If an interrupt ends the flush, ``close`` can be called again.
        """
        if flush:
            try:
                self.flush()
            except BaoziError:
                self._end()
                raise
        self._end()

    def abandon(self) -> None:
        """In a forked child: close its copy of the parent's connection, and send nothing."""
        self._endpoint.abandon()

    def _start(self) -> None:
        with self._condition:
            if not self._running:
                self._error = None
                try:
                    self._running = True
                    self._thread = threading.Thread(target=self._run, name="remote_mp sender", daemon=True)
                    start_thread(self._thread)
                except BaseException:  # interrupted: if the thread runs, it sees that it is not self._thread
                    self._thread, self._running = None, False
                    raise

    def _end(self) -> None:
        with self._condition:
            self._closing = True
            self._give_up.set()
            self._condition.notify_all()
            running = self._thread if self._running else None
        if running is not None:
            running.join(self._timeout)

    def _wait_for(self, is_met: Callable[[], bool]) -> None:
        # There is no deadline here: the thread's own calls have one, and after it there is an error to raise.
        check_not_own_thread(self._thread)

        def check() -> float | None:
            if self._error is not None:
                raise_copy(self._error)
            if is_met():
                return None
            if not self._running:
                raise ValueError("the queue is closed")
            return inf

        self._condition.wait_until(check)

    # --- in the thread

    def _run(self) -> None:
        with self._condition:
            if self._thread is not threading.current_thread():
                return
        error_at_end: BaoziError | None = None
        try:
            while self._wait_for_work():
                try:
                    self._send()
                    self._set_error(None)
                except MessageRefused as error:
                    self._remove_refused(error)
                except BaoziError as error:
                    self._publish_again = True
                    self._set_error(error)
        except BaseException as error:  # of any kind: no call may wait for a thread that has ended
            self._publish_again = True
            error_at_end = thread_error(error)
        try:
            self._publisher.abort()
        finally:
            with self._condition:
                self._running = False
                self._error = error_at_end or self._error
                self._condition.notify_all()

    def _wait_for_work(self) -> bool:
        """Wait until there are items to send. Return False if the sender is closing."""
        not_before = time.monotonic() + (_PAUSE if self._error is not None else 0.0)

        def check() -> float | None:
            if self._closing:
                return None
            return max(0.0, not_before - time.monotonic()) or (None if self._unconfirmed else inf)

        self._condition.wait_until(check)
        return not self._closing

    def _send(self) -> None:
        if self._publish_again:
            # The broker may have some of these batches. Then the queue has them twice.
            self._publisher.put_ahead([batch.message for batch in self._sent.values()])
            self._publish_again = False
        while self._waiting and not self._closing:
            self._publisher.put_ahead([self._next_batch()])
        self._publisher.flush()

    def _next_batch(self) -> OutgoingMessage:
        """Return a message with the waiting items, up to a batch's limits and to a gap in their numbers."""
        with self._condition:
            first = self._waiting[0][0]
            items: list[bytes] = []
            size = 0
            for number, item in islice(self._waiting, _BATCH_ITEMS):
                size += len(item)
                if number != first + len(items) or (items and size > _BATCH_BYTES):
                    break
                items.append(item)
            batch = _SentBatch(first, items, self._endpoint.message(first, items))
            for _ in items:
                self._waiting.popleft()
            self._sent[batch.message.id] = batch
        return batch.message

    def _remove_refused(self, error: MessageRefused) -> None:
        """Remove the message that the broker refused, so that the others are published again without it.

        If the refused message has several items, each of them is published alone: the broker may accept them.
        """
        refused = self._sent.get(error.refused)
        self._publish_again = True
        if refused is None:
            self._set_error(error)
            return
        self._endpoint.remember_limit(error)
        sent: dict[str, _SentBatch] = {}
        for batch in self._sent.values():
            if batch is not refused:
                sent[batch.message.id] = batch
            elif len(batch.items) > 1:
                for number, item in zip(batch.numbers, batch.items, strict=True):
                    message = self._endpoint.message(number, [item])
                    sent[message.id] = _SentBatch(number, [item], message)
        with self._condition:
            self._sent = sent
            self._largest_accepted = min(self._largest_accepted, error.limit or 0)
            if len(refused.items) == 1:
                self._unconfirmed -= 1
                awaited = refused.first in self._awaited
                if awaited:
                    self._refused[refused.first] = error
                    self._awaited.discard(refused.first)
                else:
                    self._refused_later = error
            self._condition.notify_all()
        if len(refused.items) == 1 and not awaited:
            self._on_refused(refused.first)

    def _on_confirmed(self, messages: Sequence[OutgoingMessage]) -> None:
        with self._condition:
            for message in messages:
                batch = self._sent.pop(message.id)
                self._unconfirmed -= len(batch.items)
                self._awaited.difference_update(batch.numbers)
                self._largest_accepted = max(self._largest_accepted, len(message.body))
            self._condition.notify_all()

    def _set_error(self, error: BaoziError | None) -> None:
        with self._condition:
            self._error = error
            self._condition.notify_all()
