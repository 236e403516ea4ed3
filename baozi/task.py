"""The Celery task class with the guarantee: messages are executed once for each key, or dead-lettered."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from socket import gethostname
from typing import Any

from amqp.exceptions import NotFound
from celery import Task
from celery.exceptions import Ignore, Reject
from celery.exceptions import Retry as CeleryRetry
from celery.utils.log import get_task_logger
from kombu.exceptions import EncodeError

from baozi import execution
from baozi.arguments import Arguments, Key
from baozi.dead_letters import failure
from baozi.errors import BadArguments, BadResults, NotJSON, Unroutable, UsageError
from baozi.execution import Recorder, Work
from baozi.model import (
    MADE_AT_HEADER,
    NUMBER_HEADER,
    ORDER_HEADER,
    PRODUCER_HEADER,
    RUN_HEADER,
    Baozi,
    follower_id,
    order_of,
)
from baozi.recording import Call
from baozi.retry import Retry
from baozi.settings import settings
from baozi.shown import shown
from baozi.transaction import Transaction
from baozi.worker.checking import Refused, check_before_start
from baozi.worker.configuration import BETWEEN_LIMITS

logger = get_task_logger(__name__)

#: Characters of a key: a database indexes it.
_LONGEST_KEY = 255


class FailedInBatch(Ignore):
    """Raised in a batch for a message that failed. The message is then executed again by itself."""

    def __init__(self, error: Exception) -> None:
        """Store the ``error`` of the task."""
        super().__init__(str(error))
        self.error = error


class ReliableTask(Task):  # type: ignore[type-arg]  # celery.Task is generic in its stubs only
    """A Celery task that is executed once for each key. A message that fails finally is dead-lettered.

    :meth:`baozi.Reliable.task` makes it and sets these attributes.
    """

    Request = "baozi.upstream.request:Request"

    reliable: Any = None
    """The app's :class:`baozi.reliable.Reliable`."""
    arguments: Arguments
    """The parameters of the function."""
    key_of: Callable[..., Any] | None = None
    """Returns the key for a message's arguments. None: the key is the Celery task id."""
    key_arguments = 0
    """How many of the message's arguments ``key_of`` takes."""
    retry_policy: Retry | None = None
    """When a failed message is executed again. None: never."""
    batch: int | Callable[[], int | None] | None = None
    """The largest number of messages that are executed together, or a function that returns it. None: as many
    as the function executes in ``BAOZI_BATCH_MS``."""
    as_list = False
    """Whether the function takes the items of a batch in one list."""
    transaction_limit: float = 60
    """Seconds that the function may hold the transaction."""

    # A message is acknowledged after its execution. If the pool process is killed, its message is rejected,
    # which counts towards the delivery limit. So a message that always kills its process is dead-lettered.
    acks_late = True
    reject_on_worker_lost = True
    # A message that fails finally is rejected, and so dead-lettered (baozi.upstream.request). A message that
    # exceeds the time limit returns to the queue.
    acks_on_failure = False
    acks_on_timeout = False
    # JSON, because unpickling a message could run code of the sender.
    serializer = "json"
    # The ledger stores the result. There is no result backend.
    ignore_result = True

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Set the time limits from the settings, unless the task or the app sets them."""
        del app
        # The stubs allow only whole seconds, but Celery allows fractions.
        task: Any = cls
        if task.soft_time_limit is None:
            task.soft_time_limit = settings().eat_time_limit
        if task.time_limit is None:
            task.time_limit = task.soft_time_limit + BETWEEN_LIMITS

    @property
    def batch_size(self) -> int | None:
        """The largest number of messages that are executed together. None: it is measured."""
        return self.batch() if callable(self.batch) else self.batch

    @property
    def in_transaction(self) -> bool:
        """Whether the function has a parameter for the transaction."""
        return self.arguments.transaction is not None

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send a message like Celery's ``apply_async``. A message that no queue accepts raises an error.

        Raises:
            UsageError: the task is in the header of a chord.
            NotJSON: an argument is not JSON.
            Unroutable: the queue does not exist.
        """
        if options.get("chord"):
            raise UsageError(
                "{name} cannot be in the header of a chord: a chord counts results in a result backend, and"
                " a reliable task has its result in the ledger. Use a chain.",
                name=self.name,
            )
        options.setdefault("mandatory", True)
        # Celery would put the time limits of the sender's settings into the message, and the worker would use
        # them.
        options.setdefault("time_limit", None)
        options.setdefault("soft_time_limit", None)
        try:
            return super().apply_async(*args, **options)
        except NotFound as error:
            queue = self.reliable.topology.name
            raise Unroutable(
                "The queue {queue} does not exist. Start a worker, which declares it, and try again.",
                queue=queue,
            ) from error
        except EncodeError as error:
            raise NotJSON(
                "The arguments of {name} are not JSON: {error}.", name=self.name, error=error
            ) from error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a message in a worker. If it is called directly, run the function, as in Celery.

        Raises:
            BadArguments: the message's arguments are invalid. It is dead-lettered.
            NameInUse: another order of its run and producer has its number. It is dead-lettered.
            Reject: the ledger stayed unavailable. The message returns to the queue.
            FailedInBatch: a message of a batch failed.
            Exception: the function raised it.
        """
        request: Any = self.request
        if request.called_directly or request.get("executing"):
            return super().__call__(*args, **kwargs)
        request.executing = True
        group = execution.current()
        try:
            works = request.get("works") or self.works(args, kwargs, request.id, request.get)
            if group is None:
                results = execution.execute(self.recorder(request.hostname), works, self.in_transaction)
            else:
                results = [group.execute(work) for work in works]
        except (Reject, CeleryRetry, Ignore):
            raise
        except Exception as error:
            if group is not None:
                cause = error.error if isinstance(error, execution.Raised) else error
                raise FailedInBatch(cause) from error
            self._retry(error)
            raise
        return results[0] if len(results) == 1 else None

    def works(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], task_id: str, header: Callable[[str], Any]
    ) -> list[Work]:
        """Return the executions that a message asks for. Here it is one.

        Args:
            args: the message's positional arguments.
            kwargs: the message's named arguments.
            task_id: the message's Celery task id.
            header: returns the value of one of the message's headers, or None.

        Raises:
            BadArguments: the arguments are invalid, or the key is.
            NotABaozi: the headers of its order are invalid.
        """
        checked, named = self.arguments.checked(args, kwargs)
        baozi = self.identity(named, header)
        call = Call(self.name, self._key(checked, named, task_id), baozi, order_of(header(ORDER_HEADER)))
        return [Work(self, call, checked, named)]

    def identity(self, _arguments: Mapping[str, Any], header: Callable[[str], Any]) -> Baozi | None:
        """Return run, producer, number and time from the message's headers, or None if it is in no order.

        Raises:
            NotABaozi: the headers are invalid.
        """
        if header(RUN_HEADER) is None:
            return None
        return Baozi.parse(
            {
                "run": header(RUN_HEADER),
                "producer": header(PRODUCER_HEADER),
                "number": header(NUMBER_HEADER),
                "made_at": header(MADE_AT_HEADER),
            }
        )

    def _key(self, args: Sequence[Any], kwargs: Mapping[str, Any], task_id: str) -> str:
        if self.key_of is None:
            return task_id
        try:
            key = self.key_of(*self.arguments.first(self.key_arguments, args, kwargs))
        except Exception as error:
            raise BadArguments(
                "{name}: its key cannot be made: {problem}.", name=self.name, problem=failure.describe(error)
            ) from error
        if not isinstance(key, str):
            raise BadArguments(
                "{name}: its key is a {type}, not a text.", name=self.name, type=type(key).__name__
            )
        if not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
            raise BadArguments(
                "{name}: its key has {length} characters or is not printable; it must have 1 to {longest}"
                " printable ones.",
                name=self.name,
                length=len(key),
                longest=_LONGEST_KEY,
            )
        # A plain str: for a subclass, such as a StrEnum, a database driver may store another text.
        return str.__str__(key)

    def results(self, works: Sequence[Work], transaction: Transaction | None) -> Sequence[Any]:
        """Call the function once.

        Args:
            works: one execution, or several if the function takes a list.
            transaction: the ledger's transaction, if the function takes it.

        Returns:
            A result for each of ``works``.

        Raises:
            BadResults: the function takes a list, and did not return one result for each item.
            Exception: the function raised it.
        """
        given = self.given([work.call.key for work in works], transaction)
        if not self.as_list:
            (work,) = works
            return [self.run(*work.args, **work.kwargs, **given)]
        args, kwargs = self.arguments.together((work.args, work.kwargs) for work in works)
        results = self.run(*args, **kwargs, **given)
        if results is None:
            return [None] * len(works)
        if not isinstance(results, list | tuple) or len(results) != len(works):
            length = f" of {len(results)}" if isinstance(results, list | tuple) else ""
            raise BadResults(
                "{name} must return None or a list with one result for each of its {count} items, and"
                " returned a {type}{length}.",
                name=self.name,
                count=len(works),
                type=type(results).__name__,
                length=length,
            )
        return results

    def given(self, keys: Sequence[str], transaction: Transaction | None) -> dict[str, Any]:
        """Return the arguments that the library passes to the function, by the name of the parameter.

        Args:
            keys: the key of the message, or several keys if the function takes a list.
            transaction: the ledger's transaction, if the function takes it.
        """
        given: dict[str, Any] = {}
        if self.arguments.key is not None:
            given[self.arguments.key] = [Key(key) for key in keys] if self.as_list else Key(keys[0])
        if self.arguments.transaction is not None:
            given[self.arguments.transaction] = transaction
        return given

    def recorder(self, hostname: str | None) -> Recorder:
        """Return the ledger with the names under which this worker records executions.

        Args:
            hostname: the worker's Celery node name, ``consumer@machine``.
        """
        consumer, _, machine = (hostname or gethostname()).partition("@")
        return Recorder(self.reliable.open_ledger(), consumer, machine)

    def on_recorded(self, works: Sequence[Work], consumer: str) -> None:
        """Called after the ledger has committed ``works`` for the first time. A subclass can override it.

        It is meant for output. An exception here is logged and has no other effect.

        Args:
            works: the executions, in the sequence in which they ran.
            consumer: the worker's name.
        """

    def _retry(self, error: Exception) -> None:
        """Publish the message again with a delay, if the task's retry policy allows it for ``error``.

        Raises:
            celery.exceptions.Retry: the message was published. The broker keeps it until it is due.
            Reject: the broker did not accept it. The message returns to the queue.
        """
        request: Any = self.request
        policy = self.retry_policy
        pause = None if policy is None else policy.again(error, request.retries + 1)
        if pause is None:
            return
        request.callbacks, request.chain = request.get("taken_off", (None, None))
        # RabbitMQ added the headers that begin with "x-". The new message must not have them.
        own = (request.headers or {}).items()
        headers = {name: value for name, value in own if not name.startswith("x-")}
        try:
            self.retry(
                exc=error,
                countdown=math.ceil(pause),
                max_retries=request.retries + 1,
                headers=headers,
                # Not the routing key of this delivery, which contains the delay if the message was delayed.
                queue=self.reliable.topology.name,
            )
        except Reject as reject:
            raise Reject(reject, requeue=True) from reject

    def before_start(self, *_: Any) -> None:
        """Check that the message may still be executed, and take its followers (links and chain) from Celery.

        If Celery sent them, it would treat an error there as an error of the task. :meth:`on_success` sends
        them instead.

        Raises:
            Reject: the task has expired or was revoked while it waited. It is dead-lettered.
        """
        request: Any = self.request
        try:
            # In a batch, a function that takes a list has already run for this message.
            if not (self.as_list and request.get("works")):
                check_before_start(request, time.time())
        except Refused as refused:
            raise Reject(refused, requeue=False) from None
        chain = request.chain or []
        rest = [(chain[-1], chain[:-1])] if chain else []
        request.followers = [(callback, None) for callback in request.callbacks or []] + rest
        request.taken_off = request.callbacks, request.chain
        request.callbacks = request.chain = None

    def on_success(self, retval: Any, task_id: str, *_: Any) -> None:
        """Send the followers of the task. An error here is logged, because the task itself is done."""
        request: Any = self.request
        follow = partial(self._follow, request.followers, retval, task_id, request.root_id or task_id)
        group = execution.current()
        if group is None:
            follow()
        elif request.followers:
            group.after_commit.append(follow)

    def _follow(self, followers: Sequence[Any], retval: Any, task_id: str, root_id: str) -> None:
        for number, (follower, chain) in enumerate(followers):
            try:
                signature: Any = self.app.signature(follower)
                options = {"chain": chain} if chain else {}
                if not signature.options.get("task_id"):
                    # The same id at each delivery of this message, so that the follower is executed once.
                    options["task_id"] = follower_id(task_id, number)
                signature.apply_async((retval,), parent_id=task_id, root_id=root_id, **options)
            except Exception:
                logger.exception("What follows task %s could not be sent.", shown(task_id))

    def on_failure(self, exc: Exception, _id: str, _args: Any, _kwargs: Any, einfo: Any) -> None:
        """Attach the reason of the failure for :class:`baozi.upstream.request.Request`.

        ``exc`` may not be the exception that was raised: Celery replaces exceptions that it cannot pickle,
        for example an ``HTTPError`` by an ``OSError``. ``sys.exception()`` still returns the original.
        """
        failure.attach_reason(einfo, sys.exception() or exc)
