"""The worker's batches: many messages go to a pool process together, in one round trip.

A batch never waits for more messages. Whenever a pool process is free, it gets the messages that have
arrived. So a single message is executed at once, and under load the batches grow up to the task's batch size
(:mod:`baozi.worker.batch_size`). Only plain messages are batched. Celery executes the others one by one:
messages that are delayed, retried, revoked or redelivered, those that another task follows, those that failed
in a batch, and all messages of a task whose batch size is 1. So a bad message fails alone.
"""

import gc
import signal
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from select import POLLIN, poll
from typing import Any, NamedTuple

from celery import signals
from celery.exceptions import TaskRevokedError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import Request

from baozi.upstream.events import Dispatcher
from baozi.worker.batch_execution import Answer, Finished, Item, execute_batch
from baozi.worker.batch_size import BatchSize
from baozi.worker.prefetching import Prefetch
from baozi.worker.unsettled import Unsettled

logger = get_logger(__name__)

#: The most bytes of a body. A message with a larger body is executed alone, because a batch of them would
#: fill the pipe to a pool process.
_LONGEST_BODY = 10_000
#: Headers that have no value in a plain message. Celery handles messages with them.
_SPECIAL = ("eta", "expires", "retries", "shadow", "stamped_headers", "compression", "x-delivery-count")


class BatchOutcome(NamedTuple):
    """A batch that has come back; ``answer`` is None if its pool process was lost."""

    messages: list[Any]
    answer: Answer | None


class Batches:
    """The messages of one connection that wait to be batched, and the batches in pool processes.

    The event loop calls all methods.
    """

    def __init__(
        self,
        consumer: Any,
        unsettled: Unsettled,
        sizes: Mapping[str, BatchSize],
        prefetch: Prefetch | None = None,
    ) -> None:
        """Start without messages.

        Args:
            consumer: the worker's consumer.
            unsettled: acknowledges the messages of its channel.
            sizes: the sizes of batches, by the task's name.
            prefetch: how many messages the worker prefetches; None if the number is fixed.
        """
        self._consumer = consumer
        self._sizes = sizes
        self._prefetch = prefetch
        self._unsettled = unsettled
        self._arrived: deque[Any] = deque()
        self._outcomes: deque[BatchOutcome] = deque()
        self._jobs: dict[int, Any] = {}
        self._current_batch: list[Any] = []
        self._stopped = False
        self._ended = False
        self._pool_requested = False
        self._dispatch_scheduled = False
        # Objects that exist before the first message, mostly modules, stay for ever. The garbage collector
        # need not examine them again and again.
        gc.freeze()
        self._socket = poll()
        self._socket.register(consumer.connection.connection.sock, POLLIN)

    def take(self, message: Any) -> bool:
        """Return whether ``message`` is a plain one; if so, it will be executed in a batch."""
        if not self._is_plain(message):
            return False
        self._arrived.append(message)
        self._schedule_dispatch()
        return True

    def _schedule_dispatch(self) -> None:
        """Have :meth:`dispatch` called before the event loop waits again.

        The loop's ``on_tick`` cannot be used. It is a set, and if it called the pool's entry first, a batch
        would stay here until another event wakes the loop.
        """
        if not self._dispatch_scheduled:
            self._dispatch_scheduled = True
            self._consumer.call_soon(self.dispatch)

    def _is_plain(self, message: Any) -> bool:
        headers = message.headers
        size = self._sizes.get(headers.get("task"))
        return (
            size is not None
            and size.now > 1
            and isinstance(headers.get("id"), str)
            and headers["id"] not in state.revoked
            and message.content_type == "application/json"
            and message.content_encoding == "utf-8"
            and len(message.body) <= _LONGEST_BODY
            and not any(map(headers.get, _SPECIAL))
            and self._accepts_time_limits(headers)
            and self._consumer.task_buckets[headers["task"]] is None
        )

    def _accepts_time_limits(self, headers: Any) -> bool:
        """Return whether the time limits in ``headers`` allow the time that a batch may take.

        Celery's client writes the task's limits into each message.
        """
        limits = headers.get("timelimit")
        if not limits:
            return True
        task = self._consumer.app.tasks[headers["task"]]
        ours = (task.time_limit, task.soft_time_limit)
        return all(not limit or limit >= own for limit, own in zip(limits, ours, strict=False))

    def dispatch(self) -> None:
        """Give the next batch to the pool if a process is free; settle the batches that have come back."""
        self._dispatch_scheduled = False
        while not self._ended:
            outcomes = []
            while self._outcomes:
                outcomes.append(self._outcomes.popleft())
                self._jobs.pop(id(outcomes[-1].messages))
                self._learn(outcomes[-1])
            # The next batch comes first, so that the pool process need not wait for the acknowledgements.
            if self._arrived and not (self._pool_requested or self._stopped):
                self._hand_over()
            if outcomes:
                self._settle(outcomes)
            if not self._outcomes:  # the solo pool returns the outcome at once
                return

    @property
    def in_progress(self) -> int:
        """How many batches are in pool processes."""
        return len(self._jobs)

    def stop(self) -> None:
        """Start no more batches."""
        self._stopped = True

    def end(self) -> None:
        """Do nothing more. The connection is lost, and the broker redelivers all messages."""
        self._ended = True

    def kill(self) -> None:
        """Kill the pool processes that have batches. Threads cannot be killed."""
        pool = self._consumer.pool
        with suppress(NotImplementedError):
            for job in self._jobs.values():
                for pid in job.worker_pids() if job is not None else ():
                    pool.terminate_job(pid, signal.SIGKILL)

    def _hand_over(self) -> None:
        if self.in_progress >= self._consumer.pool.num_processes:
            return
        # Messages that are already in the socket are read before the next call and may join the batch.
        size = self._sizes[self._arrived[0].headers["task"]].now
        if len(self._arrived) < size and self._socket.poll(0):
            self._schedule_dispatch()
            return
        self._pool_requested = True
        self._consumer.on_task_request(self)

    def execute_using_pool(self, pool: Any) -> None:
        """Send one batch to ``pool``. Celery calls this when a pool process is free, as for a request.

        Raises:
            TaskRevokedError: there is no batch, and the pool process stays free.
        """
        self._pool_requested = False
        batch = self._current_batch = self._next_batch()
        if not batch:
            raise TaskRevokedError
        self._announce(batch)

        def on_answer(answer: Any) -> None:
            # The threads pool calls this in another thread. call_soon wakes the event loop.
            self._outcomes.append(BatchOutcome(batch, answer if isinstance(answer, Answer) else None))
            self._schedule_dispatch()

        task = self._consumer.app.tasks[batch[0].headers["task"]]
        self._jobs[id(batch)] = pool.apply_async(
            execute_batch,
            args=(
                batch[0].headers["task"],
                self._consumer.hostname,
                [Item(message.body, message.headers, _delivery_info(message)) for message in batch],
                self._sizes[task.name].longest_s,
            ),
            callback=on_answer,
            error_callback=on_answer,
            soft_timeout=task.soft_time_limit,
            timeout=task.time_limit,
        )

    def _next_batch(self) -> list[Any]:
        """Return the next batch: messages of one task that have arrived and were not revoked since."""
        batch: list[Any] = []
        while self._arrived:
            name = self._arrived[0].headers["task"]
            if batch and (name != batch[0].headers["task"] or len(batch) >= self._sizes[name].now):
                break
            batch.append(self._arrived.popleft())
        revoked = [message for message in batch if message.headers["id"] in state.revoked]
        for message in revoked:
            self._consumer.receive_alone(message)
        return [message for message in batch if message not in revoked] if revoked else batch

    def fail(self, _: Exception) -> None:
        """Execute each message of a batch alone, because the batch could not be given to the pool."""
        for message in self._current_batch:
            self._consumer.receive_alone(message)

    def _learn(self, outcome: BatchOutcome) -> None:
        """Note what a batch took; what it had no time for is next."""
        messages, answer = outcome
        if answer is not None:
            self._measured(messages[0].headers["task"], partial(_note, answer))
            self._arrived.extendleft([messages[number] for number in reversed(answer.not_begun)])

    def _settle(self, outcomes: Collection[BatchOutcome]) -> None:
        done = []
        for messages, answer in outcomes:
            if answer is None:
                logger.error("A pool process was lost: %d messages are given back.", len(messages))
                for message in messages:
                    message.reject_log_error(logger, self._consumer.connection_errors, requeue=True)
                continue
            done += [(messages[it.number], it) for it in answer.finished]
            for number in answer.failed:
                self._consumer.receive_alone(messages[number])
        self._unsettled.acknowledge([message for message, _ in done])
        self._report(done)

    def executed_alone(self, task_name: str, seconds: float) -> None:
        """Note what a message took that Celery executed alone, and that succeeded. Thread-safe."""
        if task_name in self._sizes:
            self._consumer.call_soon(self._measured, task_name, lambda size: size.executed_alone(seconds))

    def _measured(self, task_name: str, note: Callable[[BatchSize], object]) -> None:
        size = self._sizes[task_name]
        note(size)
        if self._prefetch is None or not size.is_measured or self._stopped or self._ended:
            return
        note(self._prefetch.size)
        # Not now: a change waits for the broker's answer, and other messages arrive meanwhile.
        self._consumer.call_soon(self._adapt_prefetch, self._prefetch)

    def _adapt_prefetch(self, prefetch: Prefetch) -> None:
        """Change the number of prefetched messages. If it becomes smaller, requeue what is too much.

        The functions have become slow, and another worker may be idle. The broker may count a requeued
        message as delivered once more. So it is requeued only once: a message that was delivered before is
        not here.
        """
        if self._stopped or self._ended or not prefetch.adapt():
            return
        for _ in range(len(self._arrived) - prefetch.now * self._consumer.pool.num_processes):
            self._arrived.pop().requeue()

    def settle_and_requeue(self) -> None:
        """At the worker's end, acknowledge what has come back, and requeue the rest."""
        self._stopped = True
        self._arrived.clear()
        self.dispatch()
        self._unsettled.requeue()

    def _announce(self, batch: list[Any]) -> None:
        state.total_count.update([message.headers["task"] for message in batch])
        state.all_total_count[0] += len(batch)
        if signals.task_received.receivers:
            for message in batch:
                self._signal_received(message)
        events = self._events()
        if events is not None:
            events.send_together([event for message in batch for event in _start_events(message.headers)])

    def _signal_received(self, message: Any) -> None:
        """Send the signal ``task_received`` with Celery's request, as Celery does for a single message."""
        consumer, task = self._consumer, self._consumer.app.tasks[message.headers["task"]]
        request = Request(
            message,
            app=consumer.app,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            task=task,
            connection_errors=consumer.connection_errors,
            headers=message.headers,
        )
        signals.task_received.send(sender=consumer, request=request)

    def _report(self, done: list[tuple[Any, Finished]]) -> None:
        logger.info("Executed %d messages in a batch.", len(done))
        events = self._events()
        if events is not None:
            events.send_together(
                [
                    (
                        "task-succeeded",
                        {"uuid": message.headers["id"], "result": it.result, "runtime": it.runtime_s},
                    )
                    for message, it in done
                ]
            )

    def _events(self) -> Dispatcher | None:
        """Return the dispatcher of task events; None if events are off."""
        events: Dispatcher | None = self._consumer.event_dispatcher
        wanted = events and events.enabled and (not events.groups or "task" in events.groups)
        return events if wanted else None


def _note(answer: Answer, size: BatchSize) -> None:
    size.executed([it.runtime_s for it in answer.finished], failed=bool(answer.failed))


def _start_events(
    headers: Mapping[str, Any],
) -> tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]:
    """Return the events of a message that goes to a pool process."""
    about = {
        "uuid": headers["id"],
        "name": headers["task"],
        "args": headers.get("argsrepr"),
        "kwargs": headers.get("kwargsrepr"),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "retries": 0,
        "eta": None,
        "expires": None,
    }
    return ("task-received", about), ("task-started", {"uuid": headers["id"]})


def _delivery_info(message: Any) -> dict[str, Any]:
    """Return the ``delivery_info`` of a task's request, as Celery makes it."""
    info, properties = message.delivery_info or {}, message.properties or {}
    return {
        "exchange": info.get("exchange"),
        "routing_key": info.get("routing_key"),
        "priority": properties.get("priority"),
        "redelivered": info.get("redelivered", False),
    }
