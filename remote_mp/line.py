"""A connection that a thread of its own keeps up: open, alive by its heartbeats, open again when it was lost.

So whoever eats one item for an hour loses nothing of it, and whoever waits is told at once what came. Only
the thread speaks to the broker; others leave it a word, and wake it.
"""

import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from math import inf
from typing import Any, NoReturn, Protocol, TypeVar

from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import OperationalError

from baozi.amqp.connection import CONNECT_TIMEOUT, connect, let_go, using
from baozi.amqp.reading import Reader
from baozi.errors import BaoziError, BrokerAway
from baozi.pauses import doubled
from remote_mp.changed import Changed, start

#: Seconds without a heartbeat after which the broker gives to others what a machine that vanished had in hand
#: (it waits for two); RabbitMQ's own default (guide "Detecting Dead TCP Connections with Heartbeats").
_HEARTBEAT = 60
#: Seconds between two looks at whether a heartbeat is due.
_BEAT = 5.0
#: Seconds of the first and of the longest pause before a broker that is away is tried again.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

Result = TypeVar("Result")


class ThreadEnded(BaoziError):
    """A queue's thread ended with an error that has no name yet. The next call starts another; report it."""


def ended(error: BaseException) -> BaoziError:
    """Return what those are told that wait for a thread which has ended with ``error``."""
    if isinstance(error, BaoziError):
        return error
    told = ThreadEnded(
        f"A queue's thread ended ({type(error).__name__}: {error}). The next call starts another."
    )
    told.__cause__ = error
    return told


def raise_again(trouble: BaoziError) -> NoReturn:
    """Raise a copy: several may be told of the same trouble, and each time would lengthen its traceback."""
    raise copy(trouble) from trouble.__cause__


class User(Protocol):
    """Who uses a line. All of it is called by the line's thread."""

    def opened(self, channel: Any) -> None:
        """Declare and consume: the connection is new."""

    def lost(self) -> None:
        """Forget what the broker gives to others now: the connection is gone."""

    def turn(self) -> bool:
        """Say what is to be said to the broker; return whether all of it is settled."""

    def next_turn_in(self) -> float:
        """Return the seconds after which the next turn is due, if nothing comes before."""

    def closing(self) -> None:
        """Say the last word, for the connection is about to be closed."""


@dataclass(slots=True, eq=False)
class _Question:
    """What one thread wants the line's thread to ask the broker."""

    question: Callable[[Any], Any]
    undo: Callable[[Any], object]
    answer: list[Any] = field(default_factory=list)
    """Empty, or the answer."""
    is_dropped: bool = False
    """Whether the caller has stopped waiting for the answer."""

    def undo_answer(self) -> None:
        """Undo the answer, if there is one."""
        for answer in self.answer:
            self.undo(answer)
        self.answer = []


class Line:
    """Such a connection. Its thread starts with the first need and ends with :meth:`close`."""

    def __init__(self, name: str, url: str | None, timeout: float, user: User) -> None:
        """Open nothing yet.

        Args:
            name: what the broker's pages show.
            url: the broker's; None for that of the settings.
            timeout: seconds after which a broker that is away is an error to whoever waits.
            user: whose it is.
        """
        self.changed = Changed()
        """Told of whatever comes; hold it to look."""
        self._name = name
        self._url = url
        self._timeout = timeout
        self._user = user
        self._thread: threading.Thread | None = None
        self._running = False
        """Whether the thread serves whoever waits; said under ``changed``, so that its end wakes them."""
        self._connection: Any = None
        self._closing_by: float | None = None
        self._asked: deque[_Question] = deque()
        self._trouble: BaoziError | None = None
        self._trouble_since = 0.0
        self._wake_out, self._wake_in = -1, -1
        self._awake = False

    def start(self) -> None:
        """See that the thread runs. It tries for as long as it takes, but for what time does not mend.

        Raises:
            ValueError: the line is closed.
        """
        if not self._running:
            with self.changed:
                self._see_that_it_is_open()
                if not self._running:
                    self._trouble, self._trouble_since = None, time.monotonic()
                    if self._wake_in < 0:
                        self._wake_out, self._wake_in = os.pipe()
                        os.set_blocking(self._wake_in, False)
                        os.set_blocking(self._wake_out, False)
                    try:
                        self._running = True
                        self._thread = threading.Thread(
                            target=self._run, name=f"remote_mp {self._name}", daemon=True
                        )
                        start(self._thread)
                    except BaseException:  # interrupted: if it runs, it sees that it is not wanted
                        self._thread, self._running = None, False
                        raise

    def wake(self) -> None:
        """Have the thread take its turn now."""
        if not self._awake:
            # Under the lock, or the pipe may be closed by now and its number be another file's.
            with self.changed, suppress(BlockingIOError):
                if self._wake_in >= 0:
                    try:
                        self._awake = True
                        os.write(self._wake_in, b"\0")
                    except BaseException:  # interrupted: the next is to write
                        self._awake = False
                        raise

    def wait_for(self, seen: Callable[[], object], deadline: float | None) -> bool:
        """Return whether ``seen`` became true by the deadline; None waits for ever.

        Raises:
            BrokerAway: the broker has been away for too long.
            BaoziError: as soon as there is an error that time does not mend, or the thread has ended.
            ValueError: the line was closed.
        """
        self.start()
        see_that_another_runs(self._thread)
        came = False

        def look() -> float | None:
            nonlocal came
            if seen():
                came = True
                return None
            now = time.monotonic()
            until = inf if deadline is None else deadline
            if self._trouble is not None:
                if not isinstance(self._trouble, BrokerAway):
                    raise_again(self._trouble)
                until = min(until, self._trouble_since + self._timeout)
                if until <= now:
                    raise_again(self._trouble)
            if until <= now:
                return None
            if not self._running:
                self._see_that_it_is_open()
                self.start()
            return until - now

        self.changed.wait(look)
        return came

    def _see_that_it_is_open(self) -> None:
        if self._closing_by is not None:
            raise ValueError("the queue is closed")

    def ask(self, question: Callable[[Any], Result], undo: Callable[[Result], object]) -> Result:
        """Have the thread put a ``question`` to the broker, through a channel; return the answer.

        Args:
            question: called by the thread; on a new connection, it may be called again.
            undo: called with an answer that nobody takes any more, by this thread or that of the line.

        Raises:
            BaoziError: as :meth:`wait_for`.
        """
        asked = _Question(question, undo)
        self.start()
        try:
            self._asked.append(asked)
            self.wake()
            self.wait_for(lambda: asked.answer, None)
            result: Result = asked.answer[0]
            return result
        except BaseException:
            with self.changed:
                asked.is_dropped = True
                asked.undo_answer()
            raise

    def close(self, timeout: float) -> None:
        """Settle what is to be settled, for so many seconds, and hang up. Whoever waits is told."""
        with self.changed:
            self._closing_by = time.monotonic() + timeout
            self._awake = False
            running = self._thread if self._running else None
        if running is not None:
            self.wake()
            running.join(timeout + CONNECT_TIMEOUT)
        else:
            self._close_pipe()

    def abandon(self) -> None:
        """In a forked child, which has no such thread: close its copies of what is open, and say nothing."""
        self._close_pipe()
        if self._connection is not None:
            let_go(self._connection)

    def _close_pipe(self) -> None:
        for end in (self._wake_in, self._wake_out):
            if end >= 0:
                os.close(end)
        self._wake_in = self._wake_out = -1

    # --- what the thread does

    def _run(self) -> None:
        with self.changed:
            if self._thread is not threading.current_thread():
                return
        trouble: BaoziError | None = None
        try:
            self._keep_up()
        except (
            BaseException
        ) as error:  # whatever it is, nobody must be left waiting for a thread that is gone
            trouble = ended(error)
        with self.changed:
            self._running = False
            self._trouble = trouble or self._trouble
            if self._closing_by is not None:
                self._close_pipe()
            self.changed.notify_all()

    def _keep_up(self) -> None:
        failed = 0
        while self._closing_by is None:
            connection: Any = None
            try:
                with using():
                    connection, channel = self._open()
                    failed = 0
                    self._serve(connection, channel)
                    self._user.closing()
                    connection.close()
                connection = None
                return
            except BrokerAway as error:
                self._note(error)
            finally:
                self._user.lost()
                if connection is not None:
                    _hang_up(connection)
            failed += 1
            time.sleep(doubled(failed, _FIRST_PAUSE, _LONGEST_PAUSE))

    def _open(self) -> tuple[Connection, Any]:
        connection = connect(f"remote_mp {self._name}", CONNECT_TIMEOUT, self._url, _HEARTBEAT)
        self._connection = connection
        try:
            channel: Any = connection.channel()
            self._user.opened(channel)
        except BaseException:
            _hang_up(connection)
            raise
        self._note(None)
        return connection, channel

    def _note(self, trouble: BaoziError | None) -> None:
        with self.changed:
            if self._trouble is None:
                self._trouble_since = time.monotonic()
            self._trouble = trouble
            self.changed.notify_all()

    def _serve(self, connection: Any, channel: Any) -> None:
        amqp = connection.connection
        reader: Reader = amqp.transport.reader
        with selectors.DefaultSelector() as selector:
            selector.register(amqp.transport.sock, selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            beat_at = 0.0
            while True:
                settled = self._user.turn()
                self._answer(channel)
                now = time.monotonic()
                if self._closing_by is not None and (settled or now > self._closing_by):
                    return
                if now >= beat_at:
                    connection.heartbeat_check()
                    beat_at = now + _BEAT
                # What was read along with an answer is not to be waited for.
                wait = 0.0 if reader.left else min(beat_at - now, self._patience(now))
                ready = {key.fd for key, _ in selector.select(wait)}
                if self._wake_out in ready:
                    os.read(self._wake_out, 1024)
                    self._awake = False
                    ready.discard(self._wake_out)
                if ready or reader.left:
                    amqp.blocking_read(CONNECT_TIMEOUT)
                    while reader.left:
                        amqp.blocking_read(CONNECT_TIMEOUT)
                    with self.changed:
                        self.changed.notify_all()

    def _patience(self, now: float) -> float:
        due = self._user.next_turn_in()
        return due if self._closing_by is None else min(due, max(0.0, self._closing_by - now))

    def _answer(self, channel: Any) -> None:
        while self._asked:
            asked = self._asked[0]
            answer = [] if asked.is_dropped else [asked.question(channel)]  # if it raises, it is asked again
            self._asked.popleft()
            with self.changed:
                asked.answer = answer
                if asked.is_dropped:
                    asked.undo_answer()
                self.changed.notify_all()


def see_that_another_runs(thread: threading.Thread | None) -> None:
    """Raise if this is ``thread``, which would wait for itself: a ``__del__`` may run in any thread.

    Raises:
        RuntimeError: it is.
    """
    if thread is not None and thread.ident == threading.get_ident():
        raise RuntimeError("a queue is used by an object's __del__, in the queue's own thread")


def _hang_up(connection: Any) -> None:
    with suppress(OSError, AMQPError, OperationalError):
        connection.collect(socket_timeout=1)
