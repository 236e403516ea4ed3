"""``Queue`` and ``JoinableQueue`` with the interface of ``multiprocessing``'s own, on RabbitMQ."""

import _thread
import os
import queue
import secrets
import sys
import threading
import time
import weakref
from contextlib import suppress
from itertools import count
from multiprocessing import context, util
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from baozi.amqp.connection import broker_url
from baozi.broker_url import MEMORY, nodes, safe_url
from baozi.errors import BaoziError, QueueFull, UsageError
from baozi.model import checked_name
from baozi.settings import settings
from remote_mp.acknowledging import ReceivedItem, ReceivedMessage
from remote_mp.receiving import Receiver
from remote_mp.sending import ConfirmedSender, PutEndpoint, Sender
from remote_mp.serializers import serializer
from remote_mp.topology import ItemQueue, done_queue
from remote_mp.unfinished import UnfinishedGets
from remote_mp.window_sending import WindowSender

Item = TypeVar("Item")

#: The largest ``maxsize``: the same limit as that of ``BAOZI_CAPACITY``.
_LARGEST_MAXSIZE = 100_000_000
_LARGEST_WINDOW = 100_000
#: RabbitMQ stores a consumer's prefetch in 16 bits.
_LARGEST_PREFETCH = 65_535
#: All queues of this process: a forked child must open connections of its own.
_queues: "weakref.WeakSet[Queue[Any]]" = weakref.WeakSet()


class _OpenQueue:
    """What one process opens for a queue: a sender and a receiver.

    It has no reference to the :class:`Queue`, so that the ``Queue`` can be garbage-collected.
    """

    def __init__(self, queue: "Queue[Any]") -> None:
        process = secrets.token_hex(8)
        timeout = settings().broker_timeout
        # The broker of the settings may be memory://, which only the tasks can use.
        _checked_url(queue._url or broker_url())
        reply_to = done_queue(process) if queue._joinable else None
        endpoint = PutEndpoint(queue._item_queue, queue._url, process, queue._serializer, reply_to)
        self.receiver = Receiver(
            queue._item_queue, queue._url, process, queue._serializer, queue._prefetch, timeout
        )
        self.sender: Sender = (
            WindowSender(endpoint, queue._window, timeout, self.receiver.unfinished.discard)
            if queue._window > 1 and not queue._item_queue.maxsize
            else ConfirmedSender(endpoint, timeout)
        )
        self.unfinished_gets = UnfinishedGets[ReceivedItem]()
        self.numbers = count()
        self.flush_at_exit = True
        self.is_closed = False
        self._name = repr(queue)
        self._timeout = timeout
        self._closing = threading.Lock()
        self._pid = os.getpid()
        self._at_exit = util.Finalize(None, self.close_and_report, exitpriority=10)

    def close(self) -> None:
        """Flush, acknowledge what is finished, and close the connections.

        If an interrupt ends it, it can be called again. After it has succeeded, further calls do nothing.

        Raises:
            BaoziError: some of the items that were put are not on the broker. The connections are closed.
        """
        with self._closing:
            if self.is_closed:
                return
            try:
                self.sender.close(flush=self.flush_at_exit)
            except BaoziError:
                self._close_connections()
                raise
            self._close_connections()

    def _close_connections(self) -> None:
        self.receiver.close(self._timeout)
        self.is_closed = True
        self._at_exit.cancel()

    def close_and_report(self) -> None:
        """Call :meth:`close`, and print an error to stderr: here no caller could catch it."""
        try:
            self.close()
        except Exception as error:
            print(f"{self._name}: some items that were put are not on the broker. {error}", file=sys.stderr)

    def close_in_new_thread(self) -> None:
        """Call :meth:`close` in a new thread: the ``Queue`` was garbage-collected.

        The garbage collector runs in any thread, between any two steps. It may run in the queue's own thread,
        which must not wait for itself, and while locks are held. So this waits for nothing and takes no lock,
        not even the locks with which ``threading`` starts a thread.
        """
        if self._pid == os.getpid():
            with suppress(RuntimeError):  # the interpreter is ending, and closes everything that is open
                _thread.start_new_thread(self._start_closing_thread, ())

    def _start_closing_thread(self) -> None:
        threading.Thread(target=self.close_and_report, name="remote_mp closing", daemon=True).start()

    def abandon(self) -> None:
        """In a forked child: close its copies of the parent's connections, and send nothing."""
        self.sender.abandon()
        self.receiver.abandon()


class Queue(Generic[Item]):
    """A queue on the broker with ``multiprocessing.Queue``'s interface; see :mod:`remote_mp`."""

    _joinable = False

    def __init__(
        self,
        maxsize: int = 0,
        *,
        name: str,
        url: str | None = None,
        serializer: Literal["json", "pickle"] = "json",
        acknowledge: Literal["get", "next"] = "get",
        window: int = 1,
        prefetch: int = 100,
    ) -> None:
        """Check the arguments. The first use of the queue opens a connection.

        Args:
            maxsize: how many items the queue holds before ``put`` waits; 0 or less for no limit. It must be
                the same in all processes that use the queue.
            name: processes that give the same name use the same queue, on any machine. Up to 60 characters.
            url: the broker's URL, ``amqp://user:password@host:port/vhost``. Default: ``BAOZI_BROKER_URL``, or
                the broker that ``baozi broker start`` made. A queue with a ``url`` can be pickled only for a
                child process, because the URL has a password.
            serializer: ``json``, or ``pickle`` for any Python object. A user of the broker who can put a
                pickle on the queue can run code in each process that gets it. Use it only if you trust all
                users of the broker.
            acknowledge: when a plain Queue acknowledges an item. ``get``: when ``get`` returns it; if the
                process is killed after that, the item is lost. ``next``: when the thread calls ``get`` again,
                or the queue is closed; if the process is killed before that, another process gets the item,
                perhaps a second time. A JoinableQueue does not use this: it acknowledges on ``task_done``.
            window: how many items may be put and not confirmed yet. With 1, ``put`` returns when the broker
                has the item. With more, ``put`` returns earlier, as multiprocessing's does, and is many times
                faster: it sends several items in one message. A process that is killed loses its unconfirmed
                items; a lost connection loses none. A queue with a ``maxsize`` always uses 1: if the full
                queue refused an item, later items would come before it.
            prefetch: how many messages may be prefetched by this process, so that other processes do not get
                them; 1 if each item takes long. If no thread calls ``get`` for a second, they return to the
                queue. A queue with a ``maxsize`` does not prefetch: an item leaves the queue when it is got.

        Raises:
            UsageError: one of the arguments is out of range.
        """
        self._item_queue = ItemQueue(
            checked_name(name, "queue"), _checked(maxsize, "maxsize", None, _LARGEST_MAXSIZE)
        )
        self._url = url if url is None else _checked_url(url)
        self._format = serializer
        self._acknowledge = _checked_acknowledge(acknowledge)
        self._window = _checked(window, "window", 1, _LARGEST_WINDOW)
        self._prefetch = _checked(prefetch, "prefetch", 1, _LARGEST_PREFETCH)
        self._reset()

    def _reset(self) -> None:
        """Set up the state of this process: nothing is open yet."""
        self._serializer = serializer(self._format)
        self._lock = threading.Lock()
        self._opened: _OpenQueue | None = None
        self._closed = False
        self._collected: weakref.finalize[[], Any] | None = None
        _queues.add(self)

    @property
    def _open_queue(self) -> _OpenQueue:
        """This process's sender and receiver. The first use makes them.

        Raises:
            ValueError: they were closed.
        """
        opened = self._opened or self._open()
        if opened.is_closed:
            raise ValueError(f"{self!r} is closed")
        return opened

    def _open(self) -> _OpenQueue:
        with self._lock:
            if self._opened is None:
                self._opened = _OpenQueue(self)
                self._collected = weakref.finalize(self, self._opened.close_in_new_thread)
                self._collected.atexit = False
            return self._opened

    def put(self, obj: Item, block: bool = True, timeout: float | None = None) -> None:
        """Put an item. The broker has it when this returns, unless there is a ``window``.

        Args:
            obj: the item.
            block: whether to wait for room.
            timeout: how many seconds to wait for room. Default: for ever.

        Raises:
            queue.Full: there was no room in time.
            ValueError: the queue is closed, or JSON cannot represent the item.
            TypeError, or what the serializer raises: the item cannot be serialised. Nothing is put.
            BrokerAway, BrokerBlocked: not confirmed within ``BAOZI_BROKER_TIMEOUT``. The item may be in the
                queue; if it is put again, the queue may have it twice.
            MessageRefused: the item is larger than the broker accepts. It is not in the queue.
            BaoziError: the broker refuses for another reason, which the error says. Waiting does not help.
        """
        self._check_open()
        body = self._serializer.dumps(obj)
        opened = self._open_queue
        seconds = timeout if block else 0.0
        deadline = None if seconds is None else time.monotonic() + max(0.0, seconds)
        number = next(opened.numbers)
        if self._joinable:
            opened.receiver.expect(number)
        try:
            opened.sender.put(number, body, deadline)
        except BaseException as error:
            opened.receiver.unfinished.discard(number)
            if isinstance(error, QueueFull):
                raise queue.Full from None
            raise

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Return the next item.

        Args:
            block: whether to wait for an item.
            timeout: how many seconds to wait. Default: for ever.

        Raises:
            queue.Empty: there was no item in time.
            ValueError: the queue is closed.
            Unreadable: a message was not an item of this queue. It is moved to ``remote_mp.dead``.
            BrokerAway: the broker has been away for ``BAOZI_BROKER_TIMEOUT``.
            BaoziError: the broker refuses for another reason, which the error says. Waiting does not help.
        """
        self._check_open()
        opened = self._open_queue
        if not self._joinable and self._acknowledge == "next":
            while opened.unfinished_gets.finish_own(opened.receiver.finish):
                pass
        # An interrupt can come after each call. So at each moment an item is in exactly one place: among what
        # has arrived, in this list, or with the caller.
        taken: list[ReceivedMessage | ReceivedItem] = []
        try:
            received = opened.receiver.get(taken, block, timeout)
            if received is None:
                raise queue.Empty
            if self._joinable or self._acknowledge == "next":
                opened.unfinished_gets.add(received)
            else:
                opened.receiver.finish(received)
            item: Item = received.item
            received.returned = True  # no call follows, so no interrupt can come
            return item
        except BaseException:
            for one in taken:
                if isinstance(one, ReceivedItem):
                    opened.unfinished_gets.remove(one)
                opened.receiver.put_back(one)
            raise

    def put_nowait(self, obj: Item) -> None:
        """Call ``put(obj, False)``."""
        self.put(obj, False)

    def get_nowait(self) -> Item:
        """Return ``get(False)``."""
        return self.get(False)

    def qsize(self) -> int:
        """Return the broker's count of messages that wait, plus what this process has prefetched.

        It does not count what other processes have prefetched. Several items that were sent in one message
        count as one.

        Raises:
            ValueError: the queue is closed.
            BaoziError: as :meth:`get`.
        """
        return self._open_queue.receiver.size()

    def empty(self) -> bool:
        """Return whether :meth:`qsize` is 0."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Return whether there is a ``maxsize`` and :meth:`qsize` has reached it."""
        return 0 < self._item_queue.maxsize <= self.qsize()

    def close(self) -> None:
        """Stop putting and getting.

        Prefetched items return to the queue. Items that were got can still be finished.
        """
        self._closed = True
        if self._opened is None or self._opened.is_closed:
            return
        if not self._joinable and self._acknowledge == "next":
            while self._opened.unfinished_gets.finish_oldest(self._opened.receiver.finish):
                pass
        self._opened.receiver.stop_fetching()

    def join_thread(self) -> None:
        """Wait until the broker has all items that were put, and close the connections.

        Call :meth:`close` first. Items that were got and not finished are redelivered to other processes. If
        this is not called, the same is done when the process ends.

        Raises:
            ValueError: the queue is not closed.
            BaoziError: as :meth:`put`.
        """
        if not self._closed:
            raise ValueError(f"{self!r} is not closed")
        if self._opened is not None:
            self._opened.close()
            if self._collected is not None:
                self._collected.detach()

    def cancel_join_thread(self) -> None:
        """When the process ends, do not wait for unconfirmed items: they may be lost."""
        (self._opened or self._open()).flush_at_exit = False

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self!r} is closed")

    def __enter__(self) -> Self:
        """Return the queue itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the queue and its connections.

        After an error, items that were got and not finished are redelivered, with ``acknowledge="next"`` too.
        """
        if error is None:
            self.close()
        self._closed = True
        self.join_thread()

    def __repr__(self) -> str:
        """Return its class, its name and its URL without the password."""
        where = f" at {safe_url(self._url)}" if self._url else ""
        return f"<remote_mp.{type(self).__name__} {self._item_queue.name!r}{where}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to use the same queue.

        Raises:
            UsageError: the queue has a ``url``, and is not pickled for a child process.
        """
        if self._url is not None and context.get_spawning_popen() is None:
            raise UsageError(
                "A queue with a url can be pickled only for a child process, because the password would"
                " travel with it. Leave out the url, and set BAOZI_BROKER_URL on each machine."
            )
        kept = ("_item_queue", "_url", "_format", "_acknowledge", "_window", "_prefetch")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the queue in another process, with nothing open."""
        self.__dict__.update(state)
        self._reset()


class JoinableQueue(Queue[Item]):
    """A queue on the broker with ``multiprocessing.JoinableQueue``'s interface.

    The broker keeps an item that was got until :meth:`task_done`.
    """

    _joinable = True

    def task_done(self) -> None:
        """Finish the oldest unfinished item that this thread got or, if it has none, that this process got.

        It returns at once. First the process that put the item is notified, then the item is acknowledged. If
        this process is killed before that, a few finished items are redelivered.

        Raises:
            ValueError: this process has no unfinished item, or the queue is closed.
        """
        opened = self._open_queue
        if not opened.unfinished_gets.finish_oldest(opened.receiver.finish):
            raise ValueError("task_done() called too many times")

    def join(self, timeout: float | None = None) -> None:
        """Wait until all items that *this process* put are finished, by any process on any machine.

        Args:
            timeout: how many seconds to wait. Default: for ever.

        Raises:
            TimeoutError: not all were finished in time. The error says how many are left.
            BrokerAway: the broker has been away for ``BAOZI_BROKER_TIMEOUT``. The items may be finished.
            BaoziError: as :meth:`put`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        opened = self._open_queue
        opened.sender.flush()
        if not opened.receiver.join(deadline):
            left = len(opened.receiver.unfinished)
            raise TimeoutError(
                f"{left} of the items that this process put were not finished within {timeout:g} s"
            )


def _checked(value: object, what: str, least: int | None, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value > most:
        raise UsageError(f"A queue's {what} is a whole number up to {most}, not {value!r}.")
    if least is not None and value < least:
        raise UsageError(f"A queue's {what} is {least} or more, not {value}.")
    return max(0, value)


def _checked_url(url: str) -> str:
    if not isinstance(url, str):
        raise UsageError("A queue's url is a string.")
    try:
        scheme = nodes(url)[0].scheme
    except ValueError as error:
        raise UsageError(f"A queue's url is not a broker URL: {error}.") from None
    if scheme == MEMORY:
        raise UsageError("A queue needs RabbitMQ: memory:// works only inside one process.")
    return url


def _checked_acknowledge(when: str) -> str:
    if when not in {"get", "next"}:
        raise UsageError(f"A queue's acknowledge is 'get' or 'next', not {when!r}.")
    return when


def _reset_in_child() -> None:
    for inherited in list(_queues):
        if inherited._opened is not None:
            inherited._opened.abandon()
        if inherited._collected is not None:
            inherited._collected.detach()
        inherited._reset()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_reset_in_child)
