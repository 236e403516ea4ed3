"""``Queue`` and ``JoinableQueue`` as ``multiprocessing`` has them, on RabbitMQ."""

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
from remote_mp.declaring import Place, done_queue
from remote_mp.feeding import Feeder
from remote_mp.in_hand import InHand
from remote_mp.receiving import Receiver
from remote_mp.sending import Door, OneByOne, Sender
from remote_mp.serializers import serializer
from remote_mp.settling import Delivery, Got

Item = TypeVar("Item")

#: As ``BAOZI_CAPACITY``'s own limit.
_LARGEST = 100_000_000
_MOST_AHEAD = 100_000
#: A consumer's prefetch at the most: RabbitMQ keeps it in 16 bits.
_MOST_PREFETCHED = 65_535
#: All queues of this process: a forked child begins with connections of its own.
_queues: "weakref.WeakSet[Queue[Any]]" = weakref.WeakSet()


class _Ends:
    """What one process has of a queue. It does not know the queue, so that the queue can be collected."""

    def __init__(self, queue: "Queue[Any]") -> None:
        process = secrets.token_hex(8)
        timeout = settings().broker_timeout
        # The settings' broker may be one that only the tasks can use.
        _checked_url(queue._url or broker_url())
        reply_to = done_queue(process) if queue._joinable else None
        door = Door(queue._place, queue._url, process, queue._serializer, reply_to)
        ahead = queue._window > 1 and not queue._place.maxsize
        self.receiver = Receiver(
            queue._place, queue._url, process, queue._serializer, queue._prefetch, timeout
        )
        self.sender: Sender = (
            Feeder(door, queue._window, timeout, self.receiver.unfinished.discard)
            if ahead
            else OneByOne(door, timeout)
        )
        self.in_hand = InHand[Got]()
        self.numbers = count()
        self.flush_at_exit = True
        self.is_closed = False
        self._name = repr(queue)
        self._timeout = timeout
        self._closing = threading.Lock()
        self._pid = os.getpid()
        self._at_exit = util.Finalize(None, self.close_and_tell, exitpriority=10)

    def close(self) -> None:
        """Flush, settle and hang up, once. An interrupted close can be tried again.

        Raises:
            BaoziError: not all that was put is the broker's; it is closed all the same.
        """
        with self._closing:
            if self.is_closed:
                return
            try:
                self.sender.close(flush=self.flush_at_exit)
            except BaoziError:
                self._hang_up()
                raise
            self._hang_up()

    def _hang_up(self) -> None:
        self.receiver.close(self._timeout)
        self.is_closed = True
        self._at_exit.cancel()

    def close_and_tell(self) -> None:
        """Close where nobody catches an error: say it."""
        try:
            self.close()
        except Exception as error:
            print(f"{self._name}: not all that was put is on the broker. {error}", file=sys.stderr)

    def close_elsewhere(self) -> None:
        """Close in a thread of its own: the queue was collected as garbage.

        The collector runs in any thread between any two steps: in the queue's own, which must not wait for
        itself, and while locks are held. So nothing is waited for here, nor any lock taken, not even those
        with which ``threading`` starts a thread.
        """
        if self._pid == os.getpid():
            with suppress(RuntimeError):  # the interpreter is ending, and closes all that is open
                _thread.start_new_thread(self._close_in_a_thread, ())

    def _close_in_a_thread(self) -> None:
        threading.Thread(target=self.close_and_tell, name="remote_mp closing", daemon=True).start()

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self.sender.abandon()
        self.receiver.abandon()


class Queue(Generic[Item]):
    """``multiprocessing.Queue``'s interface, on a queue of the broker's: see :mod:`remote_mp`."""

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
        """Open nothing yet: the first use does.

        Args:
            maxsize: how many items it holds before a ``put`` waits; 0 or less for no bound. All that use the
                queue must say the same.
            name: whoever gives the same name, on whatever machine, has the same queue. Up to 60 letters.
            url: the broker's, ``amqp://user:password@host:port/vhost``; default: ``BAOZI_BROKER_URL``, or
                what ``baozi broker start`` made. With its password it goes to child processes, no further.
            serializer: ``json``, or ``pickle`` for any Python object. Who may put a pickle on the queue can
                run code in each process that gets it: for a broker whose every user you trust.
            acknowledge: when a plain Queue's item stops being the broker's. ``get``: as it is got, so that
                whoever is killed has lost what it had in hand. ``next``: when its thread gets the next or the
                queue is closed, so that it goes to another, who may do it a second time. A JoinableQueue has
                ``task_done`` for that.
            window: how many items may be on their way, put and not yet confirmed. With 1, ``put`` returns
                when the broker has the item. With more it returns earlier, as multiprocessing's does, and is
                many times faster: what is put meanwhile travels in one message. A process that is killed
                loses those on their way; a lost connection loses none. Without a bound only: where a full
                queue refuses some, those behind them would come first.
            prefetch: how many messages may wait in this process to be got, out of the others' reach; 1 where
                each takes long. Without a bound only: with one, an item leaves the queue when it is got.

        Raises:
            UsageError: one of these is out of range.
        """
        self._place = Place(checked_name(name, "queue"), _checked(maxsize, "maxsize", None, _LARGEST))
        self._url = url if url is None else _checked_url(url)
        self._format = serializer
        self._acknowledge = _checked_acknowledge(acknowledge)
        self._window = _checked(window, "window", 1, _MOST_AHEAD)
        self._prefetch = _checked(prefetch, "prefetch", 1, _MOST_PREFETCHED)
        self._begin()

    def _begin(self) -> None:
        """Begin in this process: nothing is open, nothing in hand, nothing put."""
        self._serializer = serializer(self._format)
        self._lock = threading.Lock()
        self._opened: _Ends | None = None
        self._closed = False
        self._collected: weakref.finalize[[], Any] | None = None
        _queues.add(self)

    @property
    def _ends(self) -> _Ends:
        """This process's, made at the first use.

        Raises:
            ValueError: they were closed.
        """
        ends = self._opened or self._open()
        if ends.is_closed:
            raise ValueError(f"{self!r} is closed")
        return ends

    def _open(self) -> _Ends:
        with self._lock:
            if self._opened is None:
                self._opened = _Ends(self)
                self._collected = weakref.finalize(self, self._opened.close_elsewhere)
                self._collected.atexit = False
            return self._opened

    def put(self, obj: Item, block: bool = True, timeout: float | None = None) -> None:
        """Put an item; it is the broker's when this returns, unless there is a ``window``.

        Args:
            obj: the item.
            block: whether to wait for a place.
            timeout: seconds to wait for one; default: for ever.

        Raises:
            queue.Full: there was no place in time.
            ValueError: the queue is closed.
            TypeError, or what the serializer raises: it cannot be serialised; nothing is put.
            BrokerAway, BrokerBlocked: not confirmed within ``BAOZI_BROKER_TIMEOUT``; it may be in the queue,
                and there twice when it is put again.
            MessageRefused: it is larger than what the broker takes; it is not in the queue.
            BaoziError: the broker refuses for good; says why.
        """
        self._see_that_it_is_open()
        body = self._serializer.dumps(obj)
        ends = self._ends
        seconds = timeout if block else 0.0
        deadline = None if seconds is None else time.monotonic() + max(0.0, seconds)
        number = next(ends.numbers)
        if self._joinable:
            ends.receiver.expect(number)
        try:
            ends.sender.put(number, body, deadline)
        except BaseException as error:
            ends.receiver.unfinished.discard(number)
            if isinstance(error, QueueFull):
                raise queue.Full from None
            raise

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Return the next item.

        Args:
            block: whether to wait for one.
            timeout: seconds to wait for one; default: for ever.

        Raises:
            queue.Empty: none came in time.
            ValueError: the queue is closed.
            Unreadable: what came is no item of this queue, and was put aside.
            BrokerAway: the broker has been away for ``BAOZI_BROKER_TIMEOUT``.
            BaoziError: the broker refuses for good; says why.
        """
        self._see_that_it_is_open()
        ends = self._ends
        if not self._joinable and self._acknowledge == "next":
            while ends.in_hand.finish_own(ends.receiver.finish):
                pass
        # An interrupt can follow each call. So an item is at each moment in exactly one of: what has arrived,
        # this list, the caller's hands.
        taken: list[Delivery | Got] = []
        try:
            got = ends.receiver.get(taken, block, timeout)
            if got is None:
                raise queue.Empty
            if self._joinable or self._acknowledge == "next":
                ends.in_hand.add(got)
            else:
                ends.receiver.finish(got)
            item: Item = got.item
            got.returned = True  # from here on there is no call
            return item
        except BaseException:
            for one in taken:
                if isinstance(one, Got):
                    ends.in_hand.remove(one)
                ends.receiver.take_back(one)
            raise

    def put_nowait(self, obj: Item) -> None:
        """``put(obj, False)``."""
        self.put(obj, False)

    def get_nowait(self) -> Item:
        """``get(False)``."""
        return self.get(False)

    def qsize(self) -> int:
        """Return how many items wait, by the broker's count and this process's; others may have fetched some.

        Raises:
            BaoziError: as :meth:`get`.
        """
        return self._ends.receiver.size()

    def empty(self) -> bool:
        """Whether no item waits; as :meth:`qsize`."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether there is a bound and it is reached; as :meth:`qsize`."""
        return 0 < self._place.maxsize <= self.qsize()

    def close(self) -> None:
        """Put and get no more. What was fetched ahead goes back, what was got is this process's to finish."""
        self._closed = True
        if self._opened is None or self._opened.is_closed:
            return
        if not self._joinable and self._acknowledge == "next":
            while self._opened.in_hand.finish_oldest(self._opened.receiver.finish):
                pass
        self._opened.receiver.fetch_no_more()

    def join_thread(self) -> None:
        """After :meth:`close`: return when all that was put is the broker's, and hang up.

        What was got and not finished goes to others. Without it, the same is done at the process's end.

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
        """At the process's end, do not wait for what is on its way: it may be lost."""
        (self._opened or self._open()).flush_at_exit = False

    def _see_that_it_is_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self!r} is closed")

    def __enter__(self) -> Self:
        """Return the queue itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it and hang up; when an error has come, what was got and not finished goes to others."""
        if error is None:
            self.close()
        self._closed = True
        self.join_thread()

    def __repr__(self) -> str:
        """Tell its name, and no password."""
        where = f" at {safe_url(self._url)}" if self._url else ""
        return f"<remote_mp.{type(self).__name__} {self._place.name!r}{where}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to have the same queue.

        Raises:
            UsageError: it has a URL of its own, and goes further than to a child.
        """
        if self._url is not None and context.get_spawning_popen() is None:
            raise UsageError(
                "A queue with a url of its own goes to child processes only, for the password would travel"
                " along: leave the url out, and set BAOZI_BROKER_URL on each machine."
            )
        kept = ("_place", "_url", "_format", "_acknowledge", "_window", "_prefetch")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin in another process."""
        self.__dict__.update(state)
        self._begin()


class JoinableQueue(Queue[Item]):
    """``multiprocessing.JoinableQueue``'s interface: what was got is the broker's until :meth:`task_done`."""

    _joinable = True

    def task_done(self) -> None:
        """Say that an item is finished: this thread's oldest or, when it has none, this process's.

        It returns at once. Whoever has put the item is told first, then the broker forgets it; when this
        process is killed before that, a few that were finished are handed out again.

        Raises:
            ValueError: nothing that this process has got is unfinished.
        """
        ends = self._ends
        if not ends.in_hand.finish_oldest(ends.receiver.finish):
            raise ValueError("task_done() called too many times")

    def join(self, timeout: float | None = None) -> None:
        """Return when all that *this process* has put is finished, by whomever, on whatever machine.

        Args:
            timeout: seconds to wait; default: for ever.

        Raises:
            TimeoutError: it was not in time; says how many are left.
            BrokerAway: the broker has been away for ``BAOZI_BROKER_TIMEOUT``; they may be finished.
            BaoziError: as :meth:`put`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        ends = self._ends
        ends.sender.flush()
        if not ends.receiver.join(deadline):
            left = len(ends.receiver.unfinished)
            raise TimeoutError(f"{left} of the items put here were not finished within {timeout:g} s")


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
        raise UsageError(f"A queue's url is not a broker's: {error}.") from None
    if scheme == MEMORY:
        raise UsageError("A queue needs RabbitMQ, and memory:// is inside one process.")
    return url


def _checked_acknowledge(when: str) -> str:
    if when not in {"get", "next"}:
        raise UsageError(f"A queue acknowledges on 'get' or on 'next', not on {when!r}.")
    return when


def _begin_in_child() -> None:
    for inherited in list(_queues):
        if inherited._opened is not None:
            inherited._opened.abandon()
        if inherited._collected is not None:
            inherited._collected.detach()
        inherited._begin()


os.register_at_fork(after_in_child=_begin_in_child)
