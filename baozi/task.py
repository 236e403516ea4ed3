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
    """A message of a batch failed. It will be executed again, alone, and then fail as in Celery."""

    def __init__(self, error: Exception) -> None:
        """Carry ``error``, for which it failed."""
        super().__init__(str(error))
        self.error = error


class ReliableTask(Task):  # type: ignore[type-arg]  # celery.Task is generic in its stubs only
    """A task that is executed once a key, and whose final failures are dead-lettered with their reason.

    :meth:`baozi.Reliable.task` makes it and sets what stands here.
    """

    Request = "baozi.upstream.request:Request"

    reliable: Any = None
    """The app's :class:`baozi.reliable.Reliable`."""
    arguments: Arguments
    """What the function takes."""
    key_of: Callable[..., Any] | None = None
    """Returns the key for a message's arguments; None: the key is the Celery task id."""
    key_arguments = 0
    """How many of them it takes."""
    retry_policy: Retry | None = None
    """When a failure is tried again, and how often."""
    batch: int | Callable[[], int] = 1
    """How many messages are executed together at most, or what returns that."""
    as_list = False
    """Whether the function takes the items of a batch in one list."""
    transaction_limit: float = 60
    """Seconds that the function may hold the transaction."""

    # Acknowledge what was executed, not what was delivered. A pool process that is killed has its message
    # rejected, which counts towards the delivery limit: one that always kills ends in the dead letters.
    acks_late = True
    reject_on_worker_lost = True
    # What fails for good is rejected, and so dead-lettered (baozi.upstream.request). What hangs is given
    # back.
    acks_on_failure = False
    acks_on_timeout = False
    # A message is data: a pickle would be a program.
    serializer = "json"
    # The ledger has the result; nothing waits for one elsewhere.
    ignore_result = True

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Bound how long a message may be held, if neither the task nor the app does."""
        del app
        # The stubs have whole seconds, Celery takes any.
        task: Any = cls
        if task.soft_time_limit is None:
            task.soft_time_limit = settings().eat_time_limit
        if task.time_limit is None:
            task.time_limit = task.soft_time_limit + BETWEEN_LIMITS

    @property
    def batch_size(self) -> int:
        """How many messages are executed together at most."""
        return self.batch if isinstance(self.batch, int) else self.batch()

    @property
    def in_transaction(self) -> bool:
        """Whether the function takes the transaction."""
        return self.arguments.transaction is not None

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send as Celery does; a message that no queue takes is an error, not silence.

        Raises:
            UsageError: the task is one of a chord's.
            NotJSON: an argument cannot travel as JSON.
            Unroutable: the queue is not there.
        """
        if options.get("chord"):
            raise UsageError(
                f"{self.name} cannot be in the header of a chord: a chord counts results in a result backend,"
                " and a reliable task has its result in the ledger. Use a chain."
            )
        options.setdefault("mandatory", True)
        # Celery would send the time limits of the sender's settings along, and a worker obey them.
        options.setdefault("time_limit", None)
        options.setdefault("soft_time_limit", None)
        try:
            return super().apply_async(*args, **options)
        except NotFound as error:
            queue = self.reliable.topology.name
            raise Unroutable(
                f"The queue {queue} is not there: start a worker, which declares it, then try again."
            ) from error
        except EncodeError as error:
            raise NotJSON(f"The arguments of {self.name} are not JSON: {error}.") from error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a message, in a worker; called directly, run the function, as Celery does.

        Raises:
            BadArguments: the message's arguments do not fit; it is dead-lettered.
            NameInUse: another order of its run and producer has its number; it is dead-lettered.
            Reject: the ledger stayed away; the message goes back to the broker.
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
        """Return what a message is to execute.

        Args:
            args: the message's positional arguments.
            kwargs: the message's named arguments.
            task_id: the message's Celery task id.
            header: returns the value of one of the message's headers, or None.

        Raises:
            BadArguments: they do not fit, or make no key.
            NotABaozi: the headers of its order are not what they must be.
        """
        checked, named = self.arguments.checked(args, kwargs)
        baozi = self.identity(named, header)
        call = Call(self.name, self._key(checked, named, task_id), baozi, order_of(header(ORDER_HEADER)))
        return [Work(self, call, checked, named)]

    def identity(self, _arguments: Mapping[str, Any], header: Callable[[str], Any]) -> Baozi | None:
        """Return which message of an order this is, or None if it is of none.

        Raises:
            NotABaozi: the headers are not what they must be.
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
            raise BadArguments(f"{self.name}: its key cannot be made: {failure.describe(error)}.") from error
        if not isinstance(key, str):
            raise BadArguments(f"{self.name}: its key is a {type(key).__name__}, not a text.")
        if not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
            raise BadArguments(
                f"{self.name}: its key has {len(key)} characters or is not printable; it must have 1 to"
                f" {_LONGEST_KEY} printable ones."
            )
        # Of a subclass, such as a StrEnum, only the text: a database's driver may store another one.
        return str.__str__(key)

    def results(self, works: Sequence[Work], transaction: Transaction | None) -> Sequence[Any]:
        """Call the function once.

        Args:
            works: the executions: one, or one or more if the function takes a list.
            transaction: the ledger's, if the function takes it.

        Returns:
            A result for each of ``works``.

        Raises:
            BadResults: the function takes a list, and did not return a result for each item.
            Exception: what the function raised.
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
                f"{self.name} must return None or a list with one result for each of its {len(works)} items,"
                f" and returned a {type(results).__name__}{length}."
            )
        return results

    def given(self, keys: Sequence[str], transaction: Transaction | None) -> dict[str, Any]:
        """Return the arguments of the function that do not come from the messages, by parameter.

        Args:
            keys: the keys of the messages: one, or one or more if the function takes a list.
            transaction: the ledger's.
        """
        given: dict[str, Any] = {}
        if self.arguments.key is not None:
            given[self.arguments.key] = [Key(key) for key in keys] if self.as_list else Key(keys[0])
        if self.arguments.transaction is not None:
            given[self.arguments.transaction] = transaction
        return given

    def recorder(self, hostname: str | None) -> Recorder:
        """Return where executions are recorded.

        Args:
            hostname: the worker's node name, ``consumer@machine``.
        """
        consumer, _, machine = (hostname or gethostname()).partition("@")
        return Recorder(self.reliable.open_ledger(), consumer, machine)

    def on_recorded(self, works: Sequence[Work], consumer: str) -> None:
        """Called after the ledger has committed ``works``, which no earlier delivery had done.

        A place for output: whatever fails here changes nothing.

        Args:
            works: the executions, in the sequence in which they ran.
            consumer: the worker's name.
        """

    def _retry(self, error: Exception) -> None:
        """Have the message delivered again later, if the task's policy says so for ``error``.

        Raises:
            celery.exceptions.Retry: it will be. No process waits for that: the broker has the message.
            Reject: the broker does not take it; it is given back.
        """
        request: Any = self.request
        policy = self.retry_policy
        pause = None if policy is None else policy.again(error, request.retries + 1)
        if pause is None:
            return
        request.callbacks, request.chain = request.get("taken_off", (None, None))
        # RabbitMQ added the headers that begin with "x-". The new message must not carry them.
        own = (request.headers or {}).items()
        headers = {name: value for name, value in own if not name.startswith("x-")}
        try:
            self.retry(
                exc=error,
                countdown=math.ceil(pause),
                max_retries=request.retries + 1,
                headers=headers,
                # By the queue's own name: the key that it came with may be a delayed message's.
                queue=self.reliable.topology.name,
            )
        except Reject as reject:
            raise Reject(reject, requeue=True) from reject

    def before_start(self, *_: Any) -> None:
        """Keep what is to follow from Celery, which would take a failure there for the task's own.

        Raises:
            Reject: the task has expired or was revoked while it waited; it is dead-lettered.
        """
        request: Any = self.request
        try:
            # In a batch a function that takes a list has run for this message: it is too late to refuse it.
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
        """Send what is to follow. The task is done and stays so, whatever fails here."""
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
                    # The same at each delivery of this message: what follows is executed once, too.
                    options["task_id"] = follower_id(task_id, number)
                signature.apply_async((retval,), parent_id=task_id, root_id=root_id, **options)
            except Exception:
                logger.exception("What follows task %s could not be sent.", shown(task_id))

    def on_failure(self, exc: Exception, _id: str, _args: Any, _kwargs: Any, einfo: Any) -> None:
        """Leave word of the exception for :class:`baozi.upstream.request.Request`.

        ``exc`` may be another one by now: Celery puts a plain ``OSError`` in the place of an ``HTTPError``,
        which it cannot pickle. The one that was raised is still being handled.
        """
        failure.attach_reason(einfo, sys.exception() or exc)
