"""The worker's consumer: whatever a message contains, it is not lost, and the worker does not stop or hang.

Celery rejects a message that names no task or an unknown one. The broker dead-letters it with the reason
"rejected", or drops it if the queue has no dead letters. Celery acknowledges a message that it cannot decode.
If something cannot be given to the pool, Celery counts a free pool process as busy.

Upstream: celery/celery#8812 and celery/celery#3675 are of users whose messages were dropped as unknown. No
thread about a reason for such messages is known.
Checked with: celery 5.7.0, kombu 5.7.0, amqp 5.4.2.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar
from weakref import WeakSet

from amqp.exceptions import NotAllowed
from celery.exceptions import TaskRevokedError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request as CeleryRequest

from baozi import reliable
from baozi.amqp.connection import broker_errors, connect_errors, limit_waits
from baozi.amqp.reading import read_in_pieces
from baozi.dead_letters.letter import deliveries, raw_body, raw_properties
from baozi.dead_letters.republishing import Rejection, Republication, dead_letter, postpone
from baozi.errors import AnotherLedger, BrokerError, NotPermitted, NoVirtualHost, TopologyMismatch, Unroutable
from baozi.settings import settings
from baozi.task import ReliableTask
from baozi.upstream import with_steps
from baozi.upstream.message import UninflatedMessage
from baozi.upstream.prefetch import consume_with_prefetch
from baozi.worker.batch_size import LARGEST, BatchSize
from baozi.worker.batches import Batches
from baozi.worker.checking import Refused, check_body, check_headers, seconds_until_due
from baozi.worker.facts import facts
from baozi.worker.prefetching import Prefetch
from baozi.worker.startup import check_queue_belongs_to_own_ledger, exit_with_error, own_ledger_ids
from baozi.worker.unsettled import Unsettled

logger = get_logger(__name__)

#: Seconds between two checks whether a missing queue is there again.
_MISSING_PAUSE = 1


class Consumer(CeleryConsumer):
    """Celery's consumer. Each message is checked first; what Celery would drop is dead-lettered.

    At any time a message was executed, or a copy with the reason is a dead letter, or it is in the queue.
    """

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc,valid-type]  # the stubs leave it out
        """Celery's steps with three replaced. No step requires them; else Celery would add them again."""

        default_steps: ClassVar[list[str]] = with_steps(
            CeleryConsumer.Blueprint.default_steps,
            {
                "celery.worker.consumer.control:Control": "baozi.upstream.broadcasts:Control",
                "celery.worker.consumer.delayed_delivery:DelayedDelivery": (
                    "baozi.upstream.delayed_delivery:DelayedDelivery"
                ),
                "celery.worker.consumer.gossip:Gossip": "baozi.upstream.broadcasts:Gossip",
            },
        )

        def info(self, parent: Any) -> dict[str, Any]:
            """Return what ``celery inspect stats`` shows, without the options that JSON cannot represent."""
            told: dict[str, Any] = super().info(parent)
            told["baozi"] = parent.facts
            if isinstance(told["broker"], dict):
                told["broker"].pop("transport_options", None)
            return told

    # Celery's attributes, which its stubs leave out.
    connection_errors: tuple[type[BaseException], ...]
    call_soon: Callable[..., Any]
    on_task_request: Callable[[Any], Any]
    channel_errors: tuple[type[BaseException], ...]
    connection: Any
    hub: Any
    controller: Any
    task_consumer: Any
    app: Any

    receive_alone: Callable[[Any], None]
    """Lets Celery handle one message, not in a batch."""
    republications: set[Republication]
    """The messages that are being dead-lettered or delayed."""
    handed_over: "WeakSet[CeleryRequest]"
    """Requests that were given to the pool. When one is done, ``state.reserved_requests`` lacks it."""
    prefetch_multiplier: int
    pool: Any
    _unsettled: Unsettled
    _batches: Batches | None = None
    _missing_since: float | None = None
    """When the queue was first found missing, on ``time.monotonic``'s clock; None while it is there."""

    def __init__(self, on_task_request: Callable[[Any], object], *arguments: Any, **options: Any) -> None:
        """Give messages to the pool with ``on_task_request``, as Celery's consumer does."""
        super().__init__(lambda job: on_task_request(_Guarded(job, self)), *arguments, **options)
        self.republications = set()
        self.handed_over = WeakSet()
        self.reliable = reliable.of(self.app)
        self.reliable.work()  # a worker inside a program sends no signal at its start

    def connect(self) -> Any:
        """Connect and declare the topology, which a new broker would not have."""
        connection = super().connect()
        try:
            with limit_waits(connection, settings().broker_timeout):
                self.reliable.topology.declare(connection)
            check_queue_belongs_to_own_ledger(self.reliable)
        except (TopologyMismatch, AnotherLedger) as error:
            exit_with_error(error)
        return connection

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """End the worker if connecting again cannot help. Else do what Celery does."""
        self._exit_if_permanent(exc)
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """End the worker if connecting again cannot help. Else do what Celery does."""
        self._exit_if_permanent(exc)
        super().on_connection_error_after_connected(exc)

    def _exit_if_permanent(self, error: Exception) -> None:
        """End the worker if only an administrator can help. Celery would try for ever.

        If the queue is missing and this worker may not declare it, wait: the queue, or its node of the
            cluster,
        may come back.
        """
        uri = self.app.connection().as_uri()
        try:
            with connect_errors(uri) if isinstance(error, NotAllowed) else broker_errors():
                raise error
        except (NotPermitted, NoVirtualHost) as permanent:
            exit_with_error(permanent)
        except Unroutable as missing:
            self._missing_since = self._missing_since or time.monotonic()
            if time.monotonic() - self._missing_since > settings().broker_timeout:
                exit_with_error(missing)
            time.sleep(_MISSING_PAUSE)
        except BrokerError:
            pass  # the broker is away; Celery waits for it

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """Return the function that is called with each message of this connection."""
        self._missing_since = None
        if self.connection.transport.driver_type == "amqp":
            self.task_consumer.channel.Message = UninflatedMessage
        receive = super().create_task_handler(*args, **options)
        unsettled = self._unsettled = Unsettled()
        batches = self._batches = self._new_batches()
        tasks = self._reliable_tasks()

        def check(message: Any, sort: Callable[[], object]) -> None:
            try:
                sort()
            except (*self.connection_errors, *self.channel_errors):
                raise
            except Refused as refused:
                self.dead_letter(message, str(refused))
            except Exception as error:
                logger.exception("A message that passed the checks was refused.")
                self.dead_letter(message, f"not a Celery task: {type(error).__name__}: {error}")

        def sort_alone(message: Any) -> None:
            check_body(message, tasks)
            seconds = seconds_until_due(message, time.time())
            if seconds:
                self._postpone(message, seconds)
            else:
                receive(message)

        def sort(message: Any) -> None:
            check_headers(message, tasks)
            if batches is None or not batches.take(message):
                sort_alone(message)

        def on_message(message: Any) -> None:
            if batches is not None:
                unsettled.add(message)
            message.dead_letter = partial(self.dead_letter, message)
            message.being_republished = False
            message.executed_alone = partial(self._executed_alone, message.headers.get("task"))
            if not self._is_guarded(message):
                self._receive_unguarded(message, receive)
                return
            check(message, partial(sort, message))

        self.receive_alone = lambda message: check(message, partial(sort_alone, message))
        return on_message

    def _is_guarded(self, message: Any) -> bool:
        """Return whether ``message`` is from the guarded queue or of a reliable task."""
        if self.reliable.whole_app or self._is_reliable(message.headers.get("task")):
            return True
        tag = (message.delivery_info or {}).get("consumer_tag")
        return bool(tag == self.task_consumer._active_tags.get(self.reliable.topology.name))

    def _is_reliable(self, name: object) -> bool:
        return isinstance(name, str) and isinstance(self.app.tasks.get(name), ReliableTask)

    def _receive_unguarded(self, message: Any, receive: Callable[[Any], object]) -> None:
        """Let Celery handle ``message`` without the guarantee."""
        if isinstance(message, UninflatedMessage):
            try:
                message.inflate()
            except Exception as error:  # what a codec raises
                super().on_decode_error(message, error)
                return
        receive(message)

    @property
    def facts(self) -> dict[str, Any]:
        """What this worker adds to Celery's statistics."""
        batches = self._batches.in_progress if self._batches is not None else 0
        return facts(self.reliable.topology, own_ledger_ids(), batches)

    def _new_batches(self) -> Batches | None:
        """Return the batches of this connection; None without AMQP, an event loop or tasks with batches."""
        if self.connection.transport.driver_type != "amqp":
            return None
        read_in_pieces(self.connection.connection, self.hub)
        longest_s = settings().batch_ms / 1000
        sizes = {}
        for name, task in self._reliable_tasks().items():
            limit = task.batch_size
            if limit is None and longest_s:
                sizes[name] = BatchSize(LARGEST, longest_s)
            elif limit is not None and limit > 1:
                sizes[name] = BatchSize(limit)
        if self.hub is None or not sizes:
            return None
        prefetch = None
        if self.controller.prefetch_is_adapted:
            prefetch = Prefetch(self.prefetch_multiplier, LARGEST, longest_s, self._prefetch)
        return Batches(self, self._unsettled, sizes, prefetch)

    def _prefetch(self, messages: int) -> None:
        """Prefetch so many ``messages`` for each pool process from now on."""
        count = self.pool.num_processes * messages
        consume_with_prefetch(self, self.reliable.topology.name, count)

    def _executed_alone(self, task_name: object, seconds: float) -> None:
        if self._batches is not None and isinstance(task_name, str):
            self._batches.executed_alone(task_name, seconds)

    def _reliable_tasks(self) -> dict[str, ReliableTask]:
        """Return the reliable tasks, without Celery's own such as ``celery.map``."""
        return {name: task for name, task in self.app.tasks.items() if isinstance(task, ReliableTask)}

    def drain(self) -> None:
        """Stop consuming. Messages that have arrived but were not started return to the queue."""
        with suppress(*self.connection_errors):
            self.task_consumer.cancel()
        if self._batches is not None:
            self._batches.stop()
        # Requests that wait for a free pool process.
        self.controller.semaphore.clear()
        self.republications = {one for one in self.republications if one.handed_over}

    @property
    def is_busy(self) -> bool:
        """Whether the pool has any message, started or not.

        The pool would wait for both at its end, when their results are no longer read.
        """
        handed_over = any(request in state.reserved_requests for request in self.handed_over)
        batches_in_progress = self._batches is not None and self._batches.in_progress > 0
        return bool(handed_over or state.active_requests or batches_in_progress or self.republications)

    def kill_batches(self) -> None:
        """Kill the pool processes that have batches. Celery does this for single messages."""
        if self._batches is not None:
            self._batches.kill()

    def on_close(self) -> None:
        """Forget the messages of a lost connection: the broker redelivers them."""
        self.republications.clear()
        if self._batches is not None:
            self._batches.end()
            self._batches = None
        super().on_close()

    def shutdown(self) -> None:
        """At the worker's end, acknowledge the executed messages and requeue the rest, if connected."""
        if self._batches is not None:
            with suppress(*self.connection_errors):
                self._batches.settle_and_requeue()
        super().shutdown()

    def dead_letter(self, message: Any, reason: str, traceback: str | None = None) -> None:
        """Publish ``message`` as a dead letter with ``reason``, then acknowledge it. Thread-safe."""
        logger.error("Dead-lettering a message: %s", reason)
        topology = self.reliable.topology
        rejection = Rejection(
            raw_body(message),
            raw_properties(message),
            (message.delivery_info or {}).get("routing_key") or topology.name,
            deliveries(message.properties.get("application_headers") or message.headers or {}),
            reason,
            traceback,
            str(self.hostname),
            topology.dead,
        )
        self._republish(message, Republication(self, message, dead_letter, rejection))

    def _postpone(self, message: Any, seconds: int) -> None:
        """Let the broker keep ``message`` for ``seconds``; here it would take another message's place."""

        def cannot(error: str) -> None:
            message.being_republished = False
            self.dead_letter(message, f"cannot be delayed until its ETA: {error}")

        arguments = raw_body(message), raw_properties(message), seconds, self.reliable.topology.name
        self._republish(message, Republication(self, message, postpone, *arguments, on_final=cannot))

    def _republish(self, message: Any, republication: Republication) -> None:
        if message.being_republished:
            return
        message.being_republished = True
        self.republications.add(republication)
        self.call_soon(self.on_task_request, republication)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Dead-letter a message whose body is not JSON, is of a refused type, or cannot be decompressed."""
        if not self._is_guarded(message):
            super().on_decode_error(message, exc)
            return
        self.dead_letter(message, f"cannot be decoded: {exc}")

    def on_unknown_message(self, _body: object, message: Any) -> None:
        """Dead-letter a message that no Celery client sent."""
        if not self._is_guarded(message):
            super().on_unknown_message(_body, message)
            return
        self.dead_letter(message, "not a Celery task: it has no task header")

    def on_unknown_task(self, _body: object, message: Any, exc: Exception) -> None:
        """Dead-letter a message of a task that this app does not have."""
        if not self._is_guarded(message):
            super().on_unknown_task(_body, message, exc)
            return
        self.dead_letter(message, f"unknown task: {exc}")

    def on_invalid_task(self, _body: object, message: Any, exc: Exception) -> None:
        """Dead-letter a message that Celery finds invalid."""
        if not self._is_guarded(message):
            super().on_invalid_task(_body, message, exc)
            return
        self.dead_letter(message, f"not a Celery task: {exc}")


class _Guarded:
    """A request that waits for a free pool process. If it then fails, the process stays free."""

    def __init__(self, job: Any, consumer: Consumer) -> None:
        self._job = job
        self._consumer = consumer

    def execute_using_pool(self, pool: Any) -> None:
        """Give the request to ``pool``. Celery calls this and then counts a pool process as busy.

        Raises:
            TaskRevokedError: nothing was given to the pool.
        """
        try:
            self._job.execute_using_pool(pool)
            if isinstance(self._job, CeleryRequest):
                self._consumer.handed_over.add(self._job)
        except TaskRevokedError:
            raise
        except self._consumer.connection_errors:
            self._consumer.controller.semaphore.release()
            raise
        except Exception as error:
            logger.exception("Something could not be handed to the pool.")
            if not hasattr(self._job, "fail"):  # a message of a queue that is not guarded
                self._consumer.controller.semaphore.release()
                raise
            self._job.fail(error)
            raise TaskRevokedError from error
