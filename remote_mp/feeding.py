"""The way in that runs ahead: a thread feeds the broker, as multiprocessing's own feeds its pipe."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from baozi.errors import BaoziError
from producers.confirmed import ConfirmedPublisher
from remote_mp.sending import Door, Parcel

#: Items in one message at the most, and bytes: what is put while the broker is busy with those before travels
#: together, for a message of fifty costs it hardly more than one of one. Who is killed with one of a tray in
#: hand has the whole tray given back.
_LARGEST_TRAY, _HEAVIEST_TRAY = 50, 1 << 16
#: Trays that may wait for their confirm at once.
_TRAYS = 16
#: Seconds before a broker that was away too long is tried again.
_PAUSE = 1.0


class Feeder:
    """A way in where ``put`` leaves the item to a thread. Nothing is opened before the first."""

    def __init__(self, door: Door, window: int, timeout: float) -> None:
        """Take the ``door``, how many items may be on their way, and the seconds that they may take."""
        self._door = door
        self._window = window
        self._timeout = timeout
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._sent: dict[str, tuple[Parcel, int]] = {}
        """By id: the messages that are not confirmed, and how many items each has."""
        self._under_way = 0
        self._trouble: BaoziError | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self._give_up = threading.Event()
        self._publisher = ConfirmedPublisher[Parcel](
            door.open, self._on_confirmed, _TRAYS, timeout, self._give_up
        )

    def put(self, number: int, item: bytes, _deadline: float | None) -> None:
        """Leave one to the thread; wait only while the window is full. See :class:`Sender`."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._feed, name="remote_mp feeder", daemon=True)
                self._thread.start()
            self._wait_for(lambda: self._under_way < self._window)
            self._waiting.append((number, item))
            self._under_way += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when all that was put is in the queue."""
        with self._changed:
            self._wait_for(lambda: not self._under_way)

    def close(self, *, flush: bool) -> None:
        """Flush, if that is wanted, and hang up."""
        thread = self._thread
        if thread is None:
            return
        try:
            if flush:
                self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._give_up.set()
                self._changed.notify_all()
            thread.join(self._timeout)
            self._thread, self._closing = None, False
            self._give_up.clear()

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._door.abandon()

    def _wait_for(self, seen: Callable[[], bool]) -> None:
        # The thread's own calls have a deadline, after which there is trouble to tell of.
        while self._trouble is None and not seen():
            self._changed.wait()
        if self._trouble is not None:
            raise self._trouble

    # --- what the thread does

    def _feed(self) -> None:
        while self._next():
            try:
                self._send()
                self._note(None)
            except BaoziError as error:
                self._note(error)
        self._publisher.abort()

    def _next(self) -> bool:
        """Wait for something to do; return whether there is."""
        with self._changed:
            if self._trouble is not None and not self._closing:
                self._changed.wait(_PAUSE)
            while not self._under_way and not self._closing:
                self._changed.wait()
            return not self._closing

    def _send(self) -> None:
        if self._trouble is not None:
            # The publisher has given them up. The broker may have some: they are there twice, then.
            self._publisher.put_ahead([parcel for parcel, _ in self._sent.values()])
        while self._waiting and not self._closing:
            self._publisher.put_ahead([self._tray()])
        self._publisher.flush()

    def _tray(self) -> Parcel:
        """Return a message with what waits, as far as the numbers follow one another."""
        first = self._waiting[0][0]
        items: list[bytes] = []
        weight = 0
        with self._changed:
            while (
                self._waiting
                and len(items) < _LARGEST_TRAY
                and weight < _HEAVIEST_TRAY
                and self._waiting[0][0] == first + len(items)
            ):
                items.append(self._waiting.popleft()[1])
                weight += len(items[-1])
        parcel = self._door.parcel(first, items)
        self._sent[parcel.id] = parcel, len(items)
        return parcel

    def _on_confirmed(self, parcels: Sequence[Parcel]) -> None:
        with self._changed:
            for parcel in parcels:
                self._under_way -= self._sent.pop(parcel.id)[1]
            self._changed.notify_all()

    def _note(self, trouble: BaoziError | None) -> None:
        with self._changed:
            self._trouble = trouble
            self._changed.notify_all()
