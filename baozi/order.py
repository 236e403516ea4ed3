"""An order: a numbered sequence of task messages, each confirmed by the broker. It can resume after a crash.

The journal of an order is a file that records which numbers were attempted and which were accepted. The file
is locked while the order is open, so that only one process at a time puts messages in the order.
"""

import logging
import os
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

from baozi.errors import BaoziError, OrderDiffers, OrderLeftOpen, OrderStopped, UsageError
from baozi.framing import EncodedArguments, Patterns
from baozi.journal import Entry, Event, OrderEvent, read_on
from baozi.model import NO_ORDER, ORDER_HEADER, Baozi, checked_name
from baozi.progress import Progress, journal_errors, own_journal
from baozi.signatures import checked, checked_task, with_ids
from baozi.stop import StopTimeout, stopped_by_signals
from baozi.task_publisher import TaskMessage, TaskPublisher

logger = logging.getLogger(__name__)

#: Seconds. If more time than this passed since the last put, the next put first waits for all confirms.
_PAUSE = 1.0
#: What an order does between a signal and its end, for the sentence on stderr.
_WAITS_FOR = "waiting for the broker to confirm what is in hand"


class Order:
    """A sequence of task messages, numbered from 0. :meth:`Reliable.order` makes it, for a ``with`` block.

    If the ``with`` block ends without an error, the order is closed: its last message says how many messages
    the broker accepted. If the block raises, the order stays open. To continue it, repeat the same puts in
    the same sequence in an ``Order`` with ``resume=True``. Numbers that the broker accepted before are
    skipped, and all others are put. The message of a number must be the same as before.

    After the first SIGINT or SIGTERM in the block, the current put completes, and the next put raises
    :class:`OrderStopped`. A loop that tests :attr:`stopping` and ends closes the order with what was put so
    far. A second signal raises KeyboardInterrupt at once. A signal that the program ignores or handles keeps
    its handler. If the program handles SIGALRM, both signals keep their handlers.

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
        """Create the order. Nothing is opened before the block is entered.

        Args:
            app: the Celery app of the tasks.
            run: the name of the run to which the order belongs.
            name: the order's name, unique in the run. The audit shows it as the producer.
            runs: the folder of the journals.
            connect: opens a connection to the broker. Its arguments are the timeout in seconds and the number
                of connections that were opened before.
            declare: declares the queues on a connection. Its second argument is whether this process has
                declared them before.
            open_order: the task whose message opens the order again.
            close_order: the task whose message closes the order.
            base: the class of the tasks that may be put.
            resume: whether to continue an order that an earlier process began.
            window: the largest number of unconfirmed messages.
            timeout: seconds that one put, and the end of the block, may take.
            stop_timeout: seconds after a signal within which the broker must confirm all messages.
            stop: an event that the caller sets to stop the order. If it is given, no signal handler is
                changed. Default: the first SIGINT or SIGTERM.
            on_accepted: called with each baozi that the broker accepted. Its errors are logged.

        Raises:
            UsageError: a name is invalid, or the app has ``task_always_eager``, so that no message is sent.
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
        """Called with each baozi that the broker accepted."""
        self.progress = Progress(run, name)
        """Which numbers were attempted and accepted."""
        self._owner: tuple[int, int] | None = None
        self._failed = False
        self._next = 0
        self._put_at = 0.0
        self._bodies: array[int] = array("Q")
        self.window = window
        """The largest number of unconfirmed messages."""

    # The context manager.

    def __enter__(self) -> Self:
        """Lock and read the journal. If the order is resumed, send the message that opens it again.

        Raises:
            RunExists: the order was begun before and ``resume`` is false, or another process has it open.
            JournalAway: the journal cannot be used.
            UsageError: this object was opened before.
            BaoziError: the message that opens the order failed. The errors are those of :meth:`put`.
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
                self._stop = opened.enter_context(stopped_by_signals(self._stop_timeout, _WAITS_FOR))
            opened.push(self._publisher)
            self._open()
            self._opened = opened.pop_all()
        return self

    def _open(self) -> None:
        if self.progress.order_id == NO_ORDER:
            return  # an older release began the order
        self.progress.session += 1
        self._note(OrderEvent.OPENED)
        # The first message opens a new order. An order that is resumed may have been closed before.
        if self.progress.session > 1:
            self._tell(self._open_order, self.progress.opening())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the order if the block did not raise.

        Raises:
            OrderLeftOpen: the outcome of some numbers is unknown, because an earlier put failed or the puts
                of an earlier process were not repeated.
            BaoziError: the closing message failed, so that the order stays open. The errors are those of
                :meth:`put`.
        """
        if self._owner is not None and self._owner[0] != os.getpid():
            return  # a forked child: the order belongs to its parent
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

    # For the user's block.

    @property
    def stopping(self) -> bool:
        """Whether a signal, or the event ``stop``, has asked the order to stop."""
        return self._stop is not None and self._stop.is_set()

    def pause(self, seconds: float) -> None:
        """Wait for so many ``seconds``, or until the order is asked to stop."""
        if self._stop is not None:
            self._stop.wait(seconds)

    def put(self, *signatures: Any) -> None:
        """Put tasks under the next numbers. Wait only until the window has room.

        All tasks of one call are written to the journal in one write. A number that the broker accepted from
        an earlier process is skipped.

        Args:
            signatures: one or more signatures, each of one reliable task of the app, such as
                ``charge.s(row)``. A signature may have options such as ``countdown``, ``link`` and
                ``task_id``.

        Raises:
            UsageError: an argument is not such a signature, or the arguments of its task are not JSON.
                Nothing is put, and the numbers stay free.
            OrderDiffers: another task was put under this number before. Nothing is put.
            OrderStopped: the order was asked to stop. Nothing is put.
            OrderLeftOpen: an earlier put failed.
            QueueFull: the queue stayed full.
            Unroutable: no queue accepts the message.
            BrokerAway, BrokerBlocked: the broker did not confirm in time.
            BrokerRefused, NoVirtualHost, NotPermitted, TopologyMismatch: raised at once, because a retry
                cannot help.
            MessageRefused: the broker will never accept the message.
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
                    "Number {number} of the order {name} of run {run} was another call when it was put"
                    " before. To resume, repeat the same puts in the same order.",
                    number=number,
                    name=self._name,
                    run=self._run,
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
        """Put a task under each of these numbers, for orders in which the number determines the arguments.

        This is faster than :meth:`put`. It does not check whether another task was put under a number before.

        Args:
            numbers: one or more numbers from ``progress.numbers()``, in that sequence.
            task: the task.
            make: returns the task's positional arguments, which must be plain JSON, for a baozi (run,
                producer, number and time).

        Raises:
            UsageError: the task is not a reliable task of this app.
            BaoziError: the errors of :meth:`put`, except OrderDiffers and OrderStopped.
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
        """Put one message for all of these numbers. Its argument contains them.

        Args:
            numbers: one or more numbers from ``progress.numbers()``, in that sequence.
            task: the task.
            argument: its only argument, plain JSON.
            task_id: the Celery task id. It must be the same each time the same numbers are put.

        Raises:
            UsageError: the task is not a reliable task of this app.
            BaoziError: the errors of :meth:`put`, except OrderDiffers and OrderStopped.
        """
        self._check_usable()
        task = checked_task(task.name, self._app, self._base)
        accepted = [self._baozi(number) for number in numbers]
        self._attempt(
            [TaskMessage(task, EncodedArguments.of((argument,), {}), task_id, self._others, None, accepted)]
        )

    def flush(self) -> None:
        """Wait until the broker has accepted all messages.

        Raises:
            BaoziError: the errors of :meth:`put`, except OrderDiffers and OrderStopped.
        """
        self._check_usable()
        with self._failing():
            self._publisher.flush()

    # The implementation.

    def _check_usable(self) -> None:
        self._check_owner()
        if self._failed:
            raise OrderLeftOpen("An earlier put has failed. {how}", how=self._how_to_resume())

    def _check_owner(self) -> None:
        if self._owner is None:
            raise UsageError("An order is used in its block: `with reliable.order(...) as order:`.")
        if self._owner != _here():
            raise UsageError("An order belongs to the process and the thread that opened it.")

    def _baozi(self, number: int) -> Baozi:
        # Without validation: the constructor has checked the names.
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
        """If the block raises, mark the order as failed: from then on the outcome of some puts is unknown."""
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
                # The broker has accepted the baozi, so an error of the callback is not an error of the put.
                logger.exception("A callback failed after %s was accepted.", baozi.id)

    def _note(self, event: OrderEvent) -> None:
        if self.progress.order_id != NO_ORDER:
            names = (self._run, self._name, self.progress.order_id, str(self.progress.session))
            with journal_errors():
                self._journal.write(event, "/".join(names))


_construct = Baozi.model_construct
#: Stands for the digest of a number for which the journal has none.
_UNTOLD = 0


def _bodies(path: Path, attempted: int) -> "array[int]":
    """Return the digest of the message of each number below ``attempted``, ``_UNTOLD`` if it is unknown."""
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
