"""The way in that runs ahead: a thread feeds the broker, as multiprocessing's own feeds its pipe."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from baozi.amqp.publisher import ConfirmedPublisher
from baozi.errors import BaoziError, MessageRefused
from remote_mp.changed import Changed, start
from remote_mp.line import ended, raise_again, see_that_another_runs
from remote_mp.sending import Door, Parcel

#: Items in one message at most, and bytes: what is put while the broker is busy with those before travels
#: together, because a message of fifty costs it hardly more than a message of one. If a process is killed
#: with one of a tray in hand, the whole tray is redelivered.
_LARGEST_TRAY, _HEAVIEST_TRAY = 50, 1 << 16
#: Trays that may wait for their confirm at once.
_TRAYS = 16
#: Seconds before a broker that was away too long is tried again.
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class _Tray:
    """Items that travel in one message."""

    first: int
    """The number of the first; the others follow."""
    items: Sequence[bytes]
    parcel: Parcel

    @property
    def numbers(self) -> range:
        """The numbers of its items."""
        return range(self.first, self.first + len(self.items))


class Feeder:
    """A way in where ``put`` leaves the item to a thread. Nothing is opened before the first.

    An item that is larger than any message which the broker has taken yet is waited for: only the broker
    knows whether it takes that much, and ``put`` is where the error belongs. Such a message travels alone,
    because the broker refuses it by closing the channel, and then says nothing of those before it.
    """

    def __init__(
        self, door: Door, window: int, timeout: float, on_refused: Callable[[int], object] = lambda _: None
    ) -> None:
        """Start nothing yet.

        Args:
            door: makes the messages and opens the channels.
            window: how many items may be on their way.
            timeout: seconds that one exchange with the broker may take.
            on_refused: called with the number of an item that was refused after its ``put`` had returned.
        """
        self._door = door
        self._window = window
        self._timeout = timeout
        self._on_refused = on_refused
        self._changed = Changed()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._sent: dict[str, _Tray] = {}
        """By message id: those that are not confirmed."""
        self._given_up = False
        """Whether the publisher has given up those, so that they are to be put again."""
        self._under_way = 0
        self._taken = 0
        """Bytes of the largest body that the broker has taken."""
        self._awaited: set[int] = set()
        """The numbers whose ``put`` waits for the confirm."""
        self._refused: dict[int, BaoziError] = {}
        """Of those, the refused."""
        self._refused_later: BaoziError | None = None
        """Of an item whose ``put`` had returned; :meth:`flush` raises it."""
        self._trouble: BaoziError | None = None
        self._thread: threading.Thread | None = None
        self._running = False
        """Whether the thread serves whoever waits; said under ``_changed``, so that its end wakes them."""
        self._closing = False
        self._give_up = threading.Event()
        self._publisher = ConfirmedPublisher[Parcel](
            door.open, self._on_confirmed, _TRAYS, timeout, self._give_up, size=lambda it: len(it.body)
        )

    def put(self, number: int, item: bytes, _deadline: float | None) -> None:
        """Leave one to the thread; wait while the window is full, and for a confirm of the largest yet.

        See :class:`remote_mp.sending.Sender`.
        """
        alone = self._door.size_alone(item)
        self._door.see_that_it_is_taken(alone)

        def leave() -> bool:
            if self._under_way >= self._window:
                return False
            if alone > self._taken:
                self._awaited.add(number)
            self._under_way += 1
            self._waiting.append((number, item))
            self._changed.notify_all()
            return True

        try:
            self._start()
            self._wait_for(leave)
            if number in self._awaited:
                self._wait_for(lambda: number not in self._awaited)
        finally:
            self._awaited.discard(number)
        if number in self._refused:
            raise self._refused.pop(number)

    def flush(self) -> None:
        """Return when all that was put is in the queue."""
        if self._under_way:
            self._start()
            self._wait_for(lambda: not self._under_way)
        with self._changed:
            if self._refused_later is not None:
                error, self._refused_later = self._refused_later, None
                raise error

    def close(self, *, flush: bool) -> None:
        """Flush, if that is wanted, and hang up. An interrupted flush can be tried again."""
        if flush:
            try:
                self.flush()
            except BaoziError:
                self._end()
                raise
        self._end()

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._door.abandon()

    def _start(self) -> None:
        with self._changed:
            if not self._running:
                self._trouble = None
                try:
                    self._running = True
                    self._thread = threading.Thread(target=self._feed, name="remote_mp feeder", daemon=True)
                    start(self._thread)
                except BaseException:  # interrupted: if it runs, it sees that it is not wanted
                    self._thread, self._running = None, False
                    raise

    def _end(self) -> None:
        with self._changed:
            self._closing = True
            self._give_up.set()
            self._changed.notify_all()
            running = self._thread if self._running else None
        if running is not None:
            running.join(self._timeout)

    def _wait_for(self, seen: Callable[[], bool]) -> None:
        # The thread's own calls have a deadline, after which there is trouble to tell of.
        see_that_another_runs(self._thread)

        def look() -> float | None:
            if self._trouble is not None:
                raise_again(self._trouble)
            if seen():
                return None
            if not self._running:
                raise ValueError("the queue is closed")
            return inf

        self._changed.wait(look)

    # --- what the thread does

    def _feed(self) -> None:
        with self._changed:
            if self._thread is not threading.current_thread():
                return
        trouble: BaoziError | None = None
        try:
            while self._next():
                try:
                    self._send()
                    self._note(None)
                except MessageRefused as error:
                    self._set_aside(error)
                except BaoziError as error:
                    self._given_up = True
                    self._note(error)
        except (
            BaseException
        ) as error:  # whatever it is, nobody must be left waiting for a thread that is gone
            self._given_up = True
            trouble = ended(error)
        try:
            self._publisher.abort()
        finally:
            with self._changed:
                self._running = False
                self._trouble = trouble or self._trouble
                self._changed.notify_all()

    def _next(self) -> bool:
        """Wait for something to do; return whether there is."""
        not_before = time.monotonic() + (_PAUSE if self._trouble is not None else 0.0)

        def look() -> float | None:
            if self._closing:
                return None
            return max(0.0, not_before - time.monotonic()) or (None if self._under_way else inf)

        self._changed.wait(look)
        return not self._closing

    def _send(self) -> None:
        if self._given_up:
            # The broker may have some of them: those are there twice, then.
            self._publisher.put_ahead([tray.parcel for tray in self._sent.values()])
            self._given_up = False
        while self._waiting and not self._closing:
            self._publisher.put_ahead([self._tray()])
        self._publisher.flush()

    def _tray(self) -> Parcel:
        """Return a message with what waits, as far as the numbers follow one another."""
        with self._changed:
            first = self._waiting[0][0]
            items: list[bytes] = []
            weight = 0
            for number, item in islice(self._waiting, _LARGEST_TRAY):
                weight += len(item)
                if number != first + len(items) or (items and weight > _HEAVIEST_TRAY):
                    break
                items.append(item)
            tray = _Tray(first, items, self._door.parcel(first, items))
            for _ in items:
                self._waiting.popleft()
            self._sent[tray.parcel.id] = tray
        return tray.parcel

    def _set_aside(self, error: MessageRefused) -> None:
        """Put the messages again that the publisher gave up, without the one that the broker refuses.

        If that one has several items, each of them is put alone: the broker may take them.
        """
        refused = self._sent.get(error.refused)
        self._given_up = True
        if refused is None:
            self._note(error)
            return
        self._door.learn(error)
        sent: dict[str, _Tray] = {}
        for tray in self._sent.values():
            if tray is not refused:
                sent[tray.parcel.id] = tray
            elif len(tray.items) > 1:
                for number, item in zip(tray.numbers, tray.items, strict=True):
                    parcel = self._door.parcel(number, [item])
                    sent[parcel.id] = _Tray(number, [item], parcel)
        with self._changed:
            self._sent = sent
            self._taken = min(self._taken, error.limit or 0)
            if len(refused.items) == 1:
                self._under_way -= 1
                awaited = refused.first in self._awaited
                if awaited:
                    self._refused[refused.first] = error
                    self._awaited.discard(refused.first)
                else:
                    self._refused_later = error
            self._changed.notify_all()
        if len(refused.items) == 1 and not awaited:
            self._on_refused(refused.first)

    def _on_confirmed(self, parcels: Sequence[Parcel]) -> None:
        with self._changed:
            for parcel in parcels:
                tray = self._sent.pop(parcel.id)
                self._under_way -= len(tray.items)
                self._awaited.difference_update(tray.numbers)
                self._taken = max(self._taken, len(parcel.body))
            self._changed.notify_all()

    def _note(self, trouble: BaoziError | None) -> None:
        with self._changed:
            self._trouble = trouble
            self._changed.notify_all()
