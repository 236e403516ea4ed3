"""An order: a numbered sequence of tasks, each confirmed by the broker, resumed after a crash, and closed.

The journal of an order is a file that tells what was attempted and what was accepted. It is locked while the
order is open, so that one process at a time works on it.
"""

import logging
import os
import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from celery import Celery
from kombu import Connection

from baozi.command_line import StopTimeout, cancel_stop_timeout, stop_on_signals
from baozi.errors import BaoziError, OrderDiffers, OrderLeftOpen, OrderStopped, UsageError
from baozi.framing import EncodedArguments, Patterns
from baozi.journal import Entry, Event, OrderEvent, read_on
from baozi.model import NO_ORDER, ORDER_HEADER, Baozi, checked_name
from baozi.progress import Progress, journal_errors, own_journal
from baozi.signatures import checked, checked_task, with_ids
from baozi.stop import Stop
from baozi.task_publisher import TaskMessage, TaskPublisher

logger = logging.getLogger(__name__)

#: Seconds. After a longer pause between two puts, the next put first reads the confirms that have arrived.
_PAUSE = 1.0


class Order:
    """Puts tasks under numbers from 0, each confirmed, and closes the order at the end of its ``with`` block.

    A block that ends without an error closes the order: its last message tells how many were accepted. A
    block that ends with an error leaves the order open. To go on, repeat the same puts in the same order in
    an ``Order`` with ``resume=True``: a number that was accepted before is skipped, all others are put. What
    is put under a number must be what was put under it before.

    The first SIGINT or SIGTERM in the block lets the put in hand end; the next put raises
    :class:`OrderStopped`. A loop that ends by itself when :attr:`stopping` is true closes the order with what
    was put until then. A second signal interrupts at once. A signal that the program ignores or handles
    itself is left alone, and both are left alone where it has a handler for SIGALRM.

    An order belongs to the process and the thread that opened it.
    """

    def __init__(
        self,
        app: Celery,
        run: str,
        name: str,
        *,
        runs: Path,
        connect: Callable[[float, int], Connection],
        declare: Callable[[Connection, bool], object],
        open_order: Any,
        close_order: Any,
        base: type[Any],
        resume: bool = False,
        window: int = 1000,
        timeout: float = 30,
        stop_timeout: float = 10,
        stop: threading.Event | None = None,
        on_accepted: Callable[[Baozi], object] = lambda _: None,
    ) -> None:
        """Open nothing before the block is entered.

        Args:
            app: the Celery app of the tasks.
            run: the run that the order is part of.
            name: the order's name, unlike any other in the run. It is the producer in the audit.
            runs: the folder of the journals.
            connect: opens a connection within so many seconds; the second argument counts the connections.
            declare: declares the queues on a connection; the second argument tells whether this process has
                declared them before.
            open_order: the task that is told that an order is open again.
            close_order: the task that is told of the order's end.
            base: the class of the tasks that may be put.
            resume: whether to go on with an order that was begun before.
            window: how many messages may be on the way to the broker, put and not yet confirmed.
            timeout: seconds that one put may take, and the end of the block.
            stop_timeout: seconds after a signal in which what is in hand must be confirmed.
            stop: is set by the caller to stop. No signal's handler is changed then.
            on_accepted: called with each message that the broker accepted. Its errors are logged.

        Raises:
            UsageError: a name cannot be used, or the app runs its tasks in the process that calls them.
        """
        self._app = app
        self._run, self._name = checked_name(run, "run", resume), checked_name(name, "order", resume)
        if app.conf.task_always_eager:
            raise UsageError(
                "The setting task_always_eager runs each task in the process that calls it. Turn it off to"
                " put an order on a queue."
            )
        self._runs = runs
        self._resume = resume
        self._base = base
        self._open_order, self._close_order = open_order, close_order
        self._publisher = TaskPublisher(connect, declare, window, timeout, None, self._accept)
        self._stop_timeout = stop_timeout
        self._stop = stop
        self.on_accepted = on_accepted
        """Called with each that was accepted."""
        self.progress = Progress(run, name)
        """How far the order has come."""
        self._owner: tuple[int, int] | None = None
        self._failed = False
        self._next = 0
        self._put_at = 0.0
        self._bodies: array[int] = array("Q")
        self.window = window
        """How many messages may be on the way to the broker."""

    # The block.

    def __enter__(self) -> Self:
        """Lock the journal and read it. An order that was opened before is opened again at the broker.

        Raises:
            RunExists: the order was begun before and ``resume`` is false, or another process has it.
            JournalAway: the journal cannot be used.
            BaoziError: the broker could not be told, as :meth:`put` says.
        """
        if self._owner is not None:
            raise UsageError("An order is opened once. Make another Order with resume=True to go on.")
        with ExitStack() as opened:
            self._journal, self.progress = opened.enter_context(
                own_journal(self._runs, self._run, self._name, self._resume)
            )
            with journal_errors():
                path = self._runs / self._run / f"{self._name}.journal"
                self._bodies = _bodies(path, self.progress.attempted)
            self._owner = _here()
            order_id = self.progress.order_id
            headers = {ORDER_HEADER: order_id} if order_id else {}
            self._numbered = Patterns(self._base, headers, (self._run, self._name))
            self._others = Patterns(self._base, headers)
            if self._stop is None:
                self._stop = opened.enter_context(_stopped_by_signals(self._stop_timeout))
            opened.push(self._publisher)
            self._open()
            self._opened = opened.pop_all()
        return self

    def _open(self) -> None:
        if self.progress.order_id == NO_ORDER:
            return  # an older release began it
        self.progress.session += 1
        self._note(OrderEvent.OPENED)
        # A new order is opened by its first message; one that is resumed may have been closed.
        if self.progress.session > 1:
            self._tell(self._open_order, self.progress.opening())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the order, unless an error has come.

        Raises:
            OrderLeftOpen: the outcome of some numbers is unknown, because an earlier put failed or the puts
                of an earlier process were not repeated.
            BaoziError: as :meth:`put`; the order is left open.
        """
        if self._owner is not None and self._owner[0] != os.getpid():
            return  # a forked child: the order is its parent's
        try:
            with self._opened:
                if isinstance(error, OrderStopped):
                    with suppress(BaoziError, StopTimeout):
                        self._publisher.flush()
                if error is not None:
                    raise error
                self._close()
        except BaseException as left:
            if not isinstance(left, OrderLeftOpen):
                left.add_note(self._how_to_resume())
            if left is not error:
                raise

    def _close(self) -> None:
        self._check_owner()
        self._publisher.flush()
        if self._failed or self.progress.unknown():
            raise OrderLeftOpen(self._how_to_resume())
        self._tell(self._close_order, self.progress.order())
        self._note(OrderEvent.CLOSED)

    def _how_to_resume(self) -> str:
        unknown = len(self.progress.unknown())
        return (
            f"The order {self._name} of run {self._run} is left open: {self.progress.accepted} accepted,"
            f" {unknown} of unknown outcome. To go on, open it with resume=True and repeat the same puts."
        )

    # What a block does.

    @property
    def stopping(self) -> bool:
        """Whether a signal has asked to stop."""
        return self._stop is not None and self._stop.is_set()

    def pause(self, seconds: float) -> None:
        """Wait so long; less if a signal asks to stop."""
        if self._stop is not None:
            self._stop.wait(seconds)

    def put(self, *signatures: Any) -> None:
        """Put tasks under the next numbers; wait only for room in the window.

        All of one call are written to the journal in one write. A number that was accepted in an earlier
        process is skipped.

        Args:
            signatures: each a signature of one reliable task of the app, as ``charge.s(row)``. It may have
                options, as ``countdown``, ``link``, or ``task_id``.

        Raises:
            UsageError: one is no such signature, or its arguments are not JSON; none of them is put, and
                their numbers are still free.
            OrderDiffers: something else was put under its number before; nothing is put.
            OrderStopped: a signal has asked to stop; nothing is put.
            QueueFull: the queue stayed full.
            Unroutable: no queue takes one of them.
            BrokerAway, BrokerBlocked: the broker did not confirm in time.
            BrokerRefused, NoVirtualHost, NotPermitted, TopologyMismatch: at once; time does not help.
            MessageRefused: the broker will never take one of them.
            JournalAway: the journal cannot be written.
        """
        self._check_usable()
        if self.stopping:
            raise OrderStopped(f"A signal has stopped the order {self._name} of run {self._run}.")
        new: list[TaskMessage] = []
        bodies: list[str] = []
        for number, signature in enumerate(signatures, self._next):
            message = self._message(number, signature)
            body = _digest(message)
            if number < len(self._bodies) and self._bodies[number] not in {_UNTOLD, int(body, 16)}:
                raise OrderDiffers(
                    f"Number {number} of the order {self._name} of run {self._run} was another call when it"
                    " was put before. To resume, repeat the same puts in the same order."
                )
            if not self.progress.accepts(number):
                new.append(message)
                bodies.append(f"{self._run}/{self._name}/{number}/{body}")
        if new:
            with journal_errors():
                self._journal.write(Event.BODY, *bodies)
            self._attempt(new)
        self._next += len(signatures)

    def put_numbers(
        self, numbers: Sequence[int], task: Any, make: Callable[[Baozi], tuple[Any, ...]]
    ) -> None:
        """Put a task under each of these numbers, for orders whose numbers tell what to put.

        This is faster than :meth:`put`, and does not see whether something else was put before.

        Args:
            numbers: of :meth:`Progress.numbers` of :attr:`progress`, in that order, not none.
            task: the task.
            make: returns its positional arguments for a number, which it is given with run, name and time.
                They must be plain JSON.

        Raises:
            UsageError, BaoziError: as :meth:`put`, but it puts after a signal too.
        """
        self._check_usable()
        task = checked_task(task.name, self._app, self._base)
        messages = []
        for number in numbers:
            baozi = self._baozi(number)
            call = EncodedArguments.of(make(baozi), {})
            messages.append(TaskMessage(task, call, baozi.task_id, self._numbered, baozi, [baozi]))
        self._attempt(messages)

    def put_together(self, numbers: Sequence[int], task: Any, argument: Any, task_id: str) -> None:
        """Put one message that stands for all of these numbers: its argument tells them.

        Args:
            numbers: as for :meth:`put_numbers`.
            task: the task.
            argument: its one argument, plain JSON.
            task_id: the message's, the same for the same numbers.

        Raises:
            UsageError, BaoziError: as :meth:`put_numbers`.
        """
        self._check_usable()
        task = checked_task(task.name, self._app, self._base)
        accepted = [self._baozi(number) for number in numbers]
        self._attempt(
            [TaskMessage(task, EncodedArguments.of((argument,), {}), task_id, self._others, None, accepted)]
        )

    def flush(self) -> None:
        """Return when all that was put is accepted.

        Raises:
            BaoziError: as :meth:`put`.
        """
        self._check_usable()
        with self._failing():
            self._publisher.flush()

    # How.

    def _check_usable(self) -> None:
        self._check_owner()
        if self._failed:
            raise OrderLeftOpen(f"An earlier put has failed. {self._how_to_resume()}")

    def _check_owner(self) -> None:
        if self._owner is None:
            raise UsageError("An order is used in its block: `with reliable.order(...) as order:`.")
        if self._owner != _here():
            raise UsageError("An order belongs to the process and the thread that opened it.")

    def _baozi(self, number: int) -> Baozi:
        # The names are checked already.
        return _construct(run=self._run, producer=self._name, number=number, made_at=time.time())

    def _message(self, number: int, signature: Any) -> TaskMessage:
        baozi = self._baozi(number)
        task, call, options = checked(signature, self._app, self._base)
        task_id = options.pop("task_id", None) or baozi.task_id
        if options.get("link"):
            options["link"] = with_ids(options["link"], task_id)
        return TaskMessage(task, call, task_id, self._numbered, baozi, [baozi], options)

    def _attempt(self, messages: Sequence[TaskMessage]) -> None:
        numbers = [baozi.number for message in messages for baozi in message.item]
        with self._failing():
            if time.monotonic() - self._put_at > _PAUSE:
                self._publisher.flush()
            with journal_errors():
                self._journal.write(Event.ATTEMPTED, *(f"{self._run}/{self._name}/{it}" for it in numbers))
            self.progress.attempted = max(self.progress.attempted, numbers[-1] + 1)
            self._publisher.put_each_ahead(messages)
        self._put_at = time.monotonic()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Note that the block of this has failed: what was put may be unknown from then on."""
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    def _tell(self, task: Any, item: Any) -> None:
        self._publisher.put(
            TaskMessage(task, EncodedArguments.of((item.argument,), {}), item.task_id, self._others, None, [])
        )

    def _accept(self, messages: Sequence[TaskMessage]) -> None:
        accepted = [baozi for message in messages for baozi in message.item]
        if not accepted:
            return
        for baozi in accepted:
            self.progress.accept(baozi.number)
        with journal_errors():
            self._journal.write(Event.ACCEPTED, *(baozi.id for baozi in accepted))
        for baozi in accepted:
            try:
                self.on_accepted(baozi)
            except Exception:
                # The broker has it, whatever happens to what is told about it.
                logger.exception("A callback failed after %s was accepted.", baozi.id)

    def _note(self, event: OrderEvent) -> None:
        if self.progress.order_id != NO_ORDER:
            names = (self._run, self._name, self.progress.order_id, str(self.progress.session))
            with journal_errors():
                self._journal.write(event, "/".join(names))


_construct = Baozi.model_construct
#: A number whose body the journal does not tell.
_UNTOLD = 0


def _bodies(path: Path, attempted: int) -> "array[int]":
    """Return the digest of what was put under each number below ``attempted``, as far as it is known."""
    bodies = array("Q", bytes(8 * attempted))
    for entry, _ in read_on(path, 0):
        if isinstance(entry, Entry) and entry.event is Event.BODY:
            *_, number, body = entry.baozi_id.split("/")
            if int(number) < attempted:
                bodies[int(number)] = int(body, 16)
    return bodies


def _digest(message: TaskMessage) -> str:
    body = "\n".join((message.task.name, *message.call.encoded))
    return blake2b(body.encode(), digest_size=8).hexdigest()


def _here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


#: The signals that stop an order, with Python's own handlers.
_HANDLERS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextmanager
def _stopped_by_signals(timeout: float) -> Iterator[Stop]:
    """Yield an event that SIGINT and SIGTERM set. A signal that the program handles itself is left alone.

    A shell starts a process in the background with SIGINT ignored, and so it stays.
    """
    numbers = [number for number, handler in _HANDLERS.items() if signal.getsignal(number) == handler]
    has_alarm = signal.getsignal(signal.SIGALRM) != signal.SIG_DFL
    if not numbers or has_alarm or threading.current_thread() is not threading.main_thread():
        yield Stop()
        return
    stop = stop_on_signals(timeout, "waiting for the broker to confirm what is in hand", numbers)
    try:
        yield stop
    finally:
        cancel_stop_timeout()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number in numbers:
            signal.signal(number, _HANDLERS[number])
