"""A connection to the broker that a thread keeps open: it sends heartbeats, and reconnects after a loss.

So a process may work on one item for an hour without losing its connection, and a waiting call learns at once
what has arrived. Only this thread uses the connection. Other threads leave it work, and wake it.
"""

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from math import inf
from typing import Any, NoReturn, Protocol, TypeVar, cast

from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import OperationalError

from baozi.amqp.connection import CONNECT_TIMEOUT, broker_errors, close_inherited_socket, connect
from baozi.amqp.reading import Reader
from baozi.backoff import exponential_backoff
from baozi.errors import BaoziError, BrokerAway
from remote_mp.condition import InterruptSafeCondition, start_thread

#: Heartbeat in seconds, RabbitMQ's own default (guide "Detecting Dead TCP Connections with Heartbeats"). If a
#: machine vanishes, the broker waits for two heartbeats, and then redelivers its messages to other consumers.
_HEARTBEAT = 60
#: Seconds between two checks whether a heartbeat is due.
_HEARTBEAT_CHECK = 5.0
#: Seconds of the first and of the longest pause before the next connection to a broker that is away.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

Result = TypeVar("Result")


class ThreadEnded(BaoziError):
    """A queue's thread ended with an unexpected error. The next call starts a new thread."""


def thread_error(error: BaseException) -> BaoziError:
    """Return what calls raise that wait for a thread which has ended with ``error``."""
    if isinstance(error, BaoziError):
        return error
    ended = ThreadEnded(
        f"A queue's thread ended ({type(error).__name__}: {error}). The next call starts a new thread."
    )
    ended.__cause__ = error
    return ended


def raise_copy(error: BaoziError) -> NoReturn:
    """Raise a copy of ``error``. Several calls may raise it, and each would make its traceback longer."""
    raise copy(error) from error.__cause__


def check_not_own_thread(thread: threading.Thread | None) -> None:
    """Raise if this is ``thread``, which would wait for itself: ``__del__`` may run in any thread.

    Raises:
        RuntimeError: this is ``thread``.
    """
    if thread is not None and thread.ident == threading.get_ident():
        raise RuntimeError("a queue is used by an object's __del__, in the queue's own thread")


class ConnectionUser(Protocol):
    """What uses a :class:`KeptConnection`. All methods are called by the connection's thread."""

    def on_open(self, channel: Any) -> None:
        """Declare queues and prepare to consume: the connection is new."""

    def on_lost(self) -> None:
        """Forget all messages of the connection: it is lost, and the broker redelivers them."""

    def work(self) -> bool:
        """Send the broker what is to be sent. Return whether nothing is left, not even a confirm."""

    def seconds_to_next_work(self) -> float:
        """Return after how many seconds to call :meth:`work` again if nothing arrives before."""

    def before_close(self) -> None:
        """Send what is to be sent last: the connection is about to be closed."""


@dataclass(slots=True, eq=False)
class _PendingCall:
    """A function that the connection's thread is to call for another thread."""

    function: Callable[[Any], Any]
    undo: Callable[[Any], object]
    result: list[Any] = field(default_factory=list)
    """Empty, or the function's result."""
    is_dropped: bool = False
    """Whether the other thread has stopped waiting for the result."""

    def undo_result(self) -> None:
        """Undo what the function did, if it was called."""
        for result in self.result:
            self.undo(result)
        self.result = []


class KeptConnection:
    """A connection and its thread, which the first use starts and :meth:`close` ends."""

    def __init__(self, name: str, url: str | None, timeout: float, user: ConnectionUser) -> None:
        """Keep the arguments. The connection is not opened yet.

        Args:
            name: the connection's name in RabbitMQ's management pages.
            url: the broker's URL; None for the one in the settings.
            timeout: how many seconds a call waits for a broker that is away before it raises.
            user: uses the connection.
        """
        self.condition = InterruptSafeCondition()
        """Notified of everything that arrives. Hold it to check what has arrived."""
        self._name = name
        self._url = url
        self._timeout = timeout
        self._user = user
        self._thread: threading.Thread | None = None
        self._running = False
        """Whether the thread runs. It is changed with ``condition`` held, so that waiting calls notice."""
        self._connection: Any = None
        self._closing_by: float | None = None
        self._calls: deque[_PendingCall] = deque()
        self._error: BaoziError | None = None
        """Why there is no connection at present, or why the thread has ended."""
        self._error_since = 0.0
        # Sockets, because Windows cannot wait for a pipe and a socket at once.
        self._wake_out: socket.socket | None = None
        self._wake_in: socket.socket | None = None
        self._awake = False

    def start(self) -> None:
        """Start the thread if it does not run.

        The thread tries to connect until it succeeds, or until an error comes that waiting does not cure.

        Raises:
            ValueError: the queue is closed.
        """
        if not self._running:
            with self.condition:
                self._check_open()
                if not self._running:
                    self._error, self._error_since = None, time.monotonic()
                    if self._wake_in is None:
                        self._wake_out, self._wake_in = socket.socketpair()
                        self._wake_in.setblocking(False)
                        self._wake_out.setblocking(False)
                    try:
                        self._running = True
                        self._thread = threading.Thread(
                            target=self._run, name=f"remote_mp {self._name}", daemon=True
                        )
                        start_thread(self._thread)
                    except (
                        BaseException
                    ):  # interrupted: if the thread runs, it sees that it is not self._thread
                        self._thread, self._running = None, False
                        raise

    def wake(self) -> None:
        """Make the thread call its user's ``work`` now."""
        if not self._awake:
            # With the lock held: without it, the socket could be closed here.
            with self.condition, suppress(BlockingIOError):
                if self._wake_in is not None:
                    try:
                        self._awake = True
                        self._wake_in.send(b"\0")
                    except BaseException:  # interrupted: the next call must write
                        self._awake = False
                        raise

    def wait_for(self, is_met: Callable[[], object], deadline: float | None) -> bool:
        """Return whether ``is_met`` became true.

        Args:
            is_met: called with ``condition`` held.
            deadline: a time of ``time.monotonic``; None to wait for ever.

        Raises:
            BrokerAway: the broker has been away for longer than the timeout.
            BaoziError: there is an error that waiting does not cure, or the thread has ended.
            ValueError: the queue is closed.
        """
        self.start()
        check_not_own_thread(self._thread)
        met = False

        def check() -> float | None:
            nonlocal met
            if is_met():
                met = True
                return None
            now = time.monotonic()
            until = inf if deadline is None else deadline
            if self._error is not None:
                if not isinstance(self._error, BrokerAway):
                    raise_copy(self._error)
                until = min(until, self._error_since + self._timeout)
                if until <= now:
                    raise_copy(self._error)
            if until <= now:
                return None
            if not self._running:
                self._check_open()
                self.start()
            return until - now

        self.condition.wait_until(check)
        return met

    def _check_open(self) -> None:
        if self._closing_by is not None:
            raise ValueError("the queue is closed")

    def call_in_thread(self, function: Callable[[Any], Result], undo: Callable[[Result], object]) -> Result:
        """Have the thread call ``function`` with a channel, and return the result.

        Args:
            function: called by the thread. If the connection is lost meanwhile, it is called again.
            undo: called with the result if this call is interrupted, by this thread or by the connection's.

        Raises:
            BaoziError: as :meth:`wait_for`.
        """
        call = _PendingCall(function, undo)
        self.start()
        try:
            self._calls.append(call)
            self.wake()
            self.wait_for(lambda: call.result, None)
            result: Result = call.result[0]
            return result
        except BaseException:
            with self.condition:
                call.is_dropped = True
                call.undo_result()
            raise

    def close(self, timeout: float) -> None:
        """Close the connection after the user's work is done, or after ``timeout`` seconds.

        Calls that wait raise ValueError.
        """
        with self.condition:
            self._closing_by = time.monotonic() + timeout
            self._awake = False
            running = self._thread if self._running else None
        if running is not None:
            self.wake()
            running.join(timeout + CONNECT_TIMEOUT)
        else:
            self._close_wake()

    def abandon(self) -> None:
        """In a forked child, which has no such thread: close its copies of what is open, and send nothing."""
        self._close_wake()
        if self._connection is not None:
            close_inherited_socket(self._connection)

    def _close_wake(self) -> None:
        for end in (self._wake_in, self._wake_out):
            if end is not None:
                end.close()
        self._wake_in = self._wake_out = None

    # --- in the thread

    def _run(self) -> None:
        with self.condition:
            if self._thread is not threading.current_thread():
                return
        error_at_end: BaoziError | None = None
        try:
            self._keep_open()
        except BaseException as error:  # of any kind: no call may wait for a thread that has ended
            error_at_end = thread_error(error)
        with self.condition:
            self._running = False
            self._error = error_at_end or self._error
            if self._closing_by is not None:
                self._close_wake()
            self.condition.notify_all()

    def _keep_open(self) -> None:
        failed = 0
        while self._closing_by is None:
            connection: Any = None
            try:
                with broker_errors():
                    connection, channel = self._open()
                    failed = 0
                    self._serve(connection, channel)
                    self._user.before_close()
                    connection.close()
                connection = None
                return
            except BrokerAway as error:
                self._set_error(error)
            finally:
                self._user.on_lost()
                if connection is not None:
                    _close_socket(connection)
            failed += 1
            time.sleep(exponential_backoff(failed, _FIRST_PAUSE, _LONGEST_PAUSE))

    def _open(self) -> tuple[Connection, Any]:
        connection = connect(f"remote_mp {self._name}", CONNECT_TIMEOUT, self._url, _HEARTBEAT)
        self._connection = connection
        try:
            channel: Any = connection.channel()
            self._user.on_open(channel)
        except BaseException:
            _close_socket(connection)
            raise
        self._set_error(None)
        return connection, channel

    def _set_error(self, error: BaoziError | None) -> None:
        with self.condition:
            if self._error is None:
                self._error_since = time.monotonic()
            self._error = error
            self.condition.notify_all()

    def _serve(self, connection: Any, channel: Any) -> None:
        """Do the user's work, and read what arrives, until the queue is closed."""
        amqp = connection.connection
        reader: Reader = amqp.transport.reader
        wake_out = cast(socket.socket, self._wake_out)  # it is there while the thread runs
        with selectors.DefaultSelector() as selector:
            selector.register(amqp.transport.sock, selectors.EVENT_READ)
            selector.register(wake_out, selectors.EVENT_READ)
            heartbeat_check_at = 0.0
            while True:
                is_done = self._user.work()
                self._make_calls(channel)
                now = time.monotonic()
                if self._closing_by is not None and (is_done or now > self._closing_by):
                    return
                if now >= heartbeat_check_at:
                    connection.heartbeat_check()
                    heartbeat_check_at = now + _HEARTBEAT_CHECK
                # The reader may hold frames that it read together with an answer: then do not wait.
                wait = 0.0 if reader.left else min(heartbeat_check_at - now, self._longest_wait(now))
                ready = {key.fileobj for key, _ in selector.select(wait)}
                if wake_out in ready:
                    wake_out.recv(1024)
                    self._awake = False
                    ready.discard(wake_out)
                if ready or reader.left:
                    amqp.blocking_read(CONNECT_TIMEOUT)
                    while reader.left:
                        amqp.blocking_read(CONNECT_TIMEOUT)
                    with self.condition:
                        self.condition.notify_all()

    def _longest_wait(self, now: float) -> float:
        seconds = self._user.seconds_to_next_work()
        return seconds if self._closing_by is None else min(seconds, max(0.0, self._closing_by - now))

    def _make_calls(self, channel: Any) -> None:
        while self._calls:
            call = self._calls[0]
            result = [] if call.is_dropped else [call.function(channel)]  # if it raises, it is called again
            self._calls.popleft()
            with self.condition:
                call.result = result
                if call.is_dropped:
                    call.undo_result()
                self.condition.notify_all()


def _close_socket(connection: Any) -> None:
    """Close a connection that may be broken, without waiting for the broker."""
    with suppress(OSError, AMQPError, OperationalError):
        connection.collect(socket_timeout=1)
