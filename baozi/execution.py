"""Executes the messages of reliable tasks: runs the function and records it in the ledger, once for each key.

Single messages and batches are executed in the same way. There are two kinds of functions:

* A function without a transaction runs first, and then the ledger records it. If the process is killed
  between the two, the message is redelivered and the function runs again.
* A function that takes the ledger's transaction runs in it, after its key was claimed. Its SQL takes effect
  once, whenever the process is killed.

A function of either kind may take a list. It is called once for all items of a group, before Celery's tracer
runs the first message. The execution of each message then returns its own result. If the function raises,
none of the items counts as executed.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol, TypeVar

from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps, loads
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_before_delay

from baozi.backoff import exponential_wait
from baozi.errors import LedgerAway, NotJSON, TransactionError
from baozi.ledger import Ledger
from baozi.ledger_engine import is_ledger_away
from baozi.recording import Call, Done, Recording
from baozi.settings import settings
from baozi.transaction import ServerTimeout, Transaction

logger = get_task_logger(__name__)
#: The log with one line for each recorded batch or single task. A worker with a log file writes these lines.
recorded_log = logging.getLogger("baozi.recorded")
Result = TypeVar("Result")

#: Seconds of the first and of the longest pause between two attempts to use the ledger.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5
#: Seconds for which a finished execution may wait to be recorded with the next ones. Slower functions are
#: recorded one by one, so that few run again if the process is killed.
_TOGETHER = 0.05


class Work(NamedTuple):
    """One execution of one task's function."""

    task: "Executable"
    call: Call
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Executable(Protocol):
    """The part of :class:`baozi.task.ReliableTask` that is used here."""

    as_list: bool
    transaction_limit: float

    def results(self, works: Sequence[Work], transaction: Transaction | None) -> Sequence[Any]:
        """Call the function once. Return a result for each of ``works``: one, or several for a list."""

    def on_recorded(self, works: Sequence[Work], consumer: str) -> None:
        """Called after the ledger has committed ``works`` for the first time."""


class Raised(Exception):
    """Says that the user's function raised ``error``, so that it is not taken for an error of the ledger."""

    def __init__(self, error: Exception) -> None:
        """Store the ``error`` that the function raised."""
        super().__init__(error)
        self.error = error


def run(works: Sequence[Work], transaction: Transaction | None) -> list[tuple[Any, str | None]]:
    """Call a task's function once.

    Args:
        works: one execution, or several of a task whose function takes a list.
        transaction: the ledger's transaction, if the function takes it.

    Returns:
        For each of ``works``, the function's result, and the result as JSON (None for None).

    Raises:
        Raised: the function raised an exception, or its result is not JSON.
        sqlalchemy.exc.DBAPIError: the function used the transaction, and the ledger is unavailable.
    """
    first = works[0]
    try:
        results = first.task.results(works, transaction)
        return [(it, None if it is None else _as_json(first.call.task, it)) for it in results]
    except Exception as error:
        if transaction is not None and is_ledger_away(error):
            raise
        raise Raised(error) from error


def _lists(works: Iterable[Work]) -> list[list[Work]]:
    """Return the ``works`` to execute in one call, one list for each task."""
    lists: dict[Executable, list[Work]] = {}
    for work in works:
        if work.task.as_list:
            lists.setdefault(work.task, []).append(work)
    return list(lists.values())


class Recorder(NamedTuple):
    """The ledger and the names with which executions are recorded."""

    ledger: Ledger
    consumer: str
    machine: str

    def recorded(self, calls: Sequence[Call]) -> list[Done | None]:
        """Return for each of ``calls`` the result of an earlier delivery, or None. See Ledger.recorded."""
        return self.ledger.recorded(calls, self.consumer, self.machine)

    def recording(self) -> AbstractContextManager[Recording]:
        """Begin a transaction of the ledger. See Ledger.recording."""
        return self.ledger.recording(self.consumer, self.machine)


class Group(Protocol):
    """One or more executions that are recorded together."""

    after_commit: list[Callable[[], None]]
    """Functions to call after the commit. They must not raise."""

    def add(self, works: Sequence[Work]) -> None:
        """Add the executions that come next. A function that takes a list is called here.

        Raises:
            Raised: that function raised an exception. The group must not be used any longer.
            LedgerAway, Reject: the ledger is unavailable.
        """

    def execute(self, work: Work) -> Any:
        """Execute ``work``, unless an earlier delivery has done it. Return its result.

        Raises:
            Raised: the function raised an exception.
            LedgerAway, Reject: the ledger is unavailable.
        """


class _RunFirst:
    """Executes functions without a transaction, and records their executions afterwards, several together."""

    def __init__(self, recorder: Recorder) -> None:
        self.after_commit: list[Callable[[], None]] = []
        self._recorder = recorder
        self._done: dict[tuple[str, str], Done] = {}
        self._new: set[tuple[str, str]] = set()
        self._unrecorded: list[tuple[Work, str | None]] = []
        self._since = 0.0
        self._failure: Exception | None = None

    def add(self, works: Sequence[Work]) -> None:
        calls = [work.call for work in works]
        found = retry_while_ledger_away(lambda: self._recorder.recorded(calls))
        self._done |= {call.id: done for call, done in zip(calls, found, strict=True) if done is not None}
        for of_task in _lists(work for work in works if work.call.id not in self._done):
            one_each: dict[tuple[str, str], Work] = {}
            for work in of_task:
                one_each.setdefault(work.call.id, work)
            results = run(list(one_each.values()), None)
            self._done |= {id_: Done(it) for id_, (_, it) in zip(one_each, results, strict=True)}
            self._unrecorded += [(work, self._done[work.call.id].result) for work in of_task]
            self.record()

    def execute(self, work: Work) -> Any:
        self._raise_failure()
        key = work.call.id
        done = self._done.get(key)
        if done is not None:
            if key in self._new:
                self._unrecorded.append((work, None))  # a second delivery in the same group is counted
            return _result(done)
        if not self._unrecorded:
            self._since = time.monotonic()
        ((result, as_json),) = run([work], None)
        self._done[key] = Done(as_json)
        self._new.add(key)
        self._unrecorded.append((work, as_json))
        if time.monotonic() - self._since > _TOGETHER:
            self.record()
        return result

    def record(self) -> None:
        """Commit the finished executions. After an error, each further call raises the same error.

        Raises:
            NameInUse: the number of some baozi belongs to another order. Nothing is recorded.
            Reject: the ledger stayed unavailable. The outcome of the commit is unknown.
        """
        self._raise_failure()
        ran, self._unrecorded = self._unrecorded, []
        if not ran:
            return

        def commit() -> list[Done | None]:
            now = time.time()
            with self._recorder.recording() as recording:
                return recording.record([(work.call, as_json, now) for work, as_json in ran])

        try:
            before = retry_while_ledger_away(commit)
        except Exception as error:
            # Celery's tracer treats this as the failure of one message. But the other messages that have run
            # are not recorded either, so each of them must fail.
            self._failure = error
            raise
        new = [work for (work, _), done in zip(ran, before, strict=True) if done is None]
        _notify_tasks(new, self._recorder.consumer)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


class _InTransaction:
    """Executes functions in one transaction, with a SAVEPOINT for each execution."""

    def __init__(self, recording: Recording, alone: bool) -> None:
        self.after_commit: list[Callable[[], None]] = []
        self._recording = recording
        self._alone = alone
        self._timeout = ServerTimeout(recording.connection)
        #: Executions whose key is claimed and that have not succeeded.
        self._claimed: dict[tuple[str, str], Work] = {}
        self._done: dict[tuple[str, str], Done] = {}
        #: What succeeded. It is stored at the end, together: one by one, each would cost a round trip.
        self._results: list[tuple[Call, str | None, float]] = []
        self.did: list[Work] = []

    def add(self, works: Sequence[Work]) -> None:
        for work, done in zip(works, self._recording.claim([work.call for work in works]), strict=True):
            if done is None:
                self._claimed[work.call.id] = work
            else:
                self._done.setdefault(work.call.id, done)
        for of_task in _lists(self._claimed.values()):
            self._execute(of_task)

    def execute(self, work: Work) -> Any:
        if self._claimed.get(work.call.id) is not work:  # an earlier delivery or an earlier message did it
            if work.call.id in self._claimed or self._recording.withdrawn(work.call):
                raise Raised(RuntimeError("Another message of this batch has the same key, and failed."))
            return _result(self._done[work.call.id])
        if self._alone:
            return self._execute([work])
        with self._recording.savepoint(work.call):
            return self._execute([work])

    def end(self) -> None:
        """Store the results, and withdraw the other claims. Otherwise they would be recorded as done."""
        self._recording.finish(self._results)
        for work in self._claimed.values():
            self._recording.withdraw(work.call)

    def _execute(self, works: Sequence[Work]) -> Any:
        """Call the function once; return the first result."""
        limit_s = works[0].task.transaction_limit
        try:
            with Transaction(self._recording.connection, limit_s, self._timeout) as transaction:
                results = run(works, transaction)
        except TransactionError as error:
            raise Raised(error) from error
        at = time.time()
        for work, (_, as_json) in zip(works, results, strict=True):
            del self._claimed[work.call.id]
            self._done[work.call.id] = Done(as_json)
            self._results.append((work.call, as_json, at))
        self.did += works
        return results[0][0]


#: The group that is being executed. Each thread of a pool has its own.
_current: ContextVar[Group | None] = ContextVar("group", default=None)


def current() -> Group | None:
    """Return the group that this thread is executing, or None outside a batch."""
    return _current.get()


@contextmanager
def together(recorder: Recorder, in_transaction: bool, alone: bool = False) -> Iterator[Group]:
    """Yield a group of executions. They are recorded at the latest at the end of the block.

    Args:
        recorder: the ledger, with the worker's names.
        in_transaction: whether the functions take the transaction.
        alone: whether there is only one execution. It then needs no SAVEPOINT.

    Raises:
        NameInUse: the number of some baozi belongs to another order. Nothing is recorded.
        LedgerAway, Reject: the ledger is unavailable.
    """
    group: Any
    if in_transaction:
        with recorder.recording() as recording:
            group = _InTransaction(recording, alone)
            with _as_current(group):
                yield group
            group.end()
        _notify_tasks(group.did, recorder.consumer)
    else:
        group = _RunFirst(recorder)
        try:
            with _as_current(group):
                yield group
        finally:
            # Also after an error, because the executions before it are done.
            group.record()
    for do in group.after_commit:
        do()


@contextmanager
def _as_current(group: Group) -> Iterator[None]:
    token = _current.set(group)
    try:
        yield
    finally:
        _current.reset(token)


def execute(recorder: Recorder, works: Sequence[Work], in_transaction: bool) -> list[Any]:
    """Execute the ``works`` of one message that is not in a batch.

    Args:
        recorder: the ledger, with the worker's names.
        works: the executions.
        in_transaction: whether the functions take the transaction.

    Returns:
        The result of each execution.

    Raises:
        NameInUse: the number belongs to another order of the run and producer.
        Reject: the ledger stayed unavailable. The message returns to the queue.
        Exception: the function raised it.
    """

    def attempt() -> list[Any]:
        with together(recorder, in_transaction, alone=len(works) == 1) as group:
            group.add(works)
            return [group.execute(work) for work in works]

    try:
        return retry_while_ledger_away(attempt) if in_transaction else attempt()
    except Raised as raised:
        # The function's own exception, with its traceback.
        raise raised.error from raised.error.__cause__


def _notify_tasks(works: Sequence[Work], consumer: str) -> None:
    """Call ``on_recorded`` of the tasks. An exception there, also of the time limit, is only logged."""
    try:
        for task in dict.fromkeys(work.task for work in works):
            own = [work for work in works if work.task is task]
            task.on_recorded(own, consumer)
            if recorded_log.isEnabledFor(logging.INFO):
                _log(own, consumer)
    except Exception:
        logger.exception("What is recorded could not be told of.")


def _log(works: Sequence[Work], consumer: str) -> None:
    runs = Counter(work.call.baozi.run for work in works if work.call.baozi is not None)
    of = "; ".join(f"run {run}: {count}" for run, count in runs.items())
    recorded_log.info("%s: %d %s recorded%s", consumer, len(works), works[0].call.task, of and f" ({of})")


def _result(done: Done) -> Any:
    return None if done.result is None else loads(done.result)


def _as_json(task: str, result: Any) -> str:
    try:
        text: str = dumps(result)
        loads(text)
    except (EncodeError, TypeError, ValueError, RecursionError) as error:
        raise NotJSON(
            "{task} returned a {type}, which is not JSON: {error}.",
            task=task,
            type=type(result).__name__,
            error=error,
        ) from None
    return text


def retry_while_ledger_away(do: Callable[[], Result]) -> Result:
    """Call ``do`` until the ledger is available. Return its result.

    Requeuing the message at once would not help, because the same would happen to all other messages.

    Args:
        do: a function that raises LedgerAway while the ledger is unavailable.

    Raises:
        Reject: the ledger was unavailable for ``ledger_timeout`` seconds, or the task's time limit has
            passed. It is then unknown whether ``do`` has committed. The message returns to the queue, and its
            next delivery finds out.
    """
    tries = Retrying(
        retry=retry_if_exception_type(LedgerAway),
        wait=exponential_wait(_FIRST_PAUSE, _LONGEST_PAUSE),
        stop=stop_before_delay(settings().ledger_timeout),
        before_sleep=_log_retry,
        reraise=True,
    )
    try:
        return tries(do)
    except (LedgerAway, SoftTimeLimitExceeded) as error:
        logger.warning("%s The message goes back to the queue.", error)
        raise Reject(error, requeue=True) from error


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0
    logger.warning("%s Trying again in %.1f s.", error, pause)
