"""The worker's batches: messages that have arrived go to a pool process together, in one round trip.

A batch waits for nothing: whenever a pool process is free it gets what is there, so that a message alone goes
at once, and under load the batches grow by themselves up to the task's limit. Only plain messages go in one:
what is to be delayed, retried, revoked or has failed before, what something follows, and what fails in a
batch, is left to Celery's own way, one by one. So one bad message fails alone.
"""

import gc
import signal
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from select import POLLIN, poll
from typing import Any, NamedTuple

from celery import signals
from celery.exceptions import TaskRevokedError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import Request

from baozi.upstream.events import Dispatcher
from baozi.worker.batch_execution import Answer, Finished, Item, execute_batch
from baozi.worker.unsettled import Unsettled

logger = get_logger(__name__)

#: Bytes of a body. Larger ones go alone: a batch of them would fill the pipe to a pool process.
_LONGEST_BODY = 10_000
#: Headers that a plain message has not, or without a value: Celery knows what each of them asks for.
_SPECIAL = ("eta", "expires", "retries", "shadow", "stamped_headers", "compression", "x-delivery-count")


class BatchOutcome(NamedTuple):
    """What became of a batch: ``answer`` is None if its pool process was lost."""

    messages: list[Any]
    answer: Answer | None


class Batches:
    """What has arrived on one connection for tasks with batches, and the batches that are out.

    Run by the event loop.
    """

    def __init__(self, consumer: Any, unsettled: Unsettled, limits: Mapping[str, int]) -> None:
        """Collect what ``consumer`` receives, and settle it in ``unsettled``.

        Args:
            consumer: the worker's.
            unsettled: the messages of its channel.
            limits: by a task's name, how many of its messages are a batch at most.
        """
        self._consumer = consumer
        self._limits = limits
        self._unsettled = unsettled
        self._largest = max(limits.values())
        self._arrived: deque[Any] = deque()
        self._outcomes: deque[BatchOutcome] = deque()
        self._jobs: dict[int, Any] = {}
        self._current_batch: list[Any] = []
        self._stopped = False
        self._ended = False
        self._pool_requested = False
        self._dispatch_scheduled = False
        # What there is when the first message comes, modules above all, stays: nobody need look through it
        # again and again for what may go.
        gc.freeze()
        self._socket = poll()
        self._socket.register(consumer.connection.connection.sock, POLLIN)

    def take(self, message: Any) -> bool:
        """Take ``message`` if it is a plain one."""
        if not self._is_plain(message):
            return False
        self._arrived.append(message)
        self._schedule_dispatch()
        return True

    def _schedule_dispatch(self) -> None:
        """Have :meth:`dispatch` called before the event loop waits again.

        Not by its ``on_tick``, a set: where the pool's own entry came first, what was handed over would stay
        here until something else wakes the loop.
        """
        if not self._dispatch_scheduled:
            self._dispatch_scheduled = True
            self._consumer.call_soon(self.dispatch)

    def _is_plain(self, message: Any) -> bool:
        headers = message.headers
        return (
            headers.get("task") in self._limits
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
        """Whether a message with these ``headers`` may take as long as a batch may.

        Celery's client writes the task's own limits into each message.
        """
        limits = headers.get("timelimit")
        if not limits:
            return True
        task = self._consumer.app.tasks[headers["task"]]
        ours = (task.time_limit, task.soft_time_limit)
        return all(not limit or limit >= own for limit, own in zip(limits, ours, strict=False))

    def dispatch(self) -> None:
        """Hand over what has arrived, if a pool process is free; settle what has come back."""
        self._dispatch_scheduled = False
        while not self._ended:
            outcomes = []
            while self._outcomes:
                outcomes.append(self._outcomes.popleft())
                self._jobs.pop(id(outcomes[-1].messages))
            # First the next batch, then the acknowledgements: the pool process need not wait for them.
            if self._arrived and not (self._pool_requested or self._stopped):
                self._hand_over()
            if outcomes:
                self._settle(outcomes)
            if not self._outcomes:  # the solo pool is done at once
                return

    @property
    def in_progress(self) -> int:
        """How many batches are with pool processes."""
        return len(self._jobs)

    def stop(self) -> None:
        """Hand over no more."""
        self._stopped = True

    def end(self) -> None:
        """Do nothing more: the connection is lost, and the broker will deliver all of it again."""
        self._ended = True

    def kill(self) -> None:
        """Kill the pool processes that eat; threads cannot be."""
        pool = self._consumer.pool
        with suppress(NotImplementedError):
            for job in self._jobs.values():
                for pid in job.worker_pids() if job is not None else ():
                    pool.terminate_job(pid, signal.SIGKILL)

    def _hand_over(self) -> None:
        if self.in_progress >= self._consumer.pool.num_processes:
            return
        # What is already in the socket will be read before the next look: it may come along.
        if len(self._arrived) < self._largest and self._socket.poll(0):
            self._schedule_dispatch()
            return
        self._pool_requested = True
        self._consumer.on_task_request(self)

    def execute_using_pool(self, pool: Any) -> None:
        """Send one batch to ``pool``: called by Celery when a pool process is free, as it calls a request.

        Raises:
            TaskRevokedError: there is nothing to send, and the pool process stays free.
        """
        self._pool_requested = False
        batch = self._current_batch = self._next_batch()
        if not batch:
            raise TaskRevokedError
        self._announce(batch)

        def on_answer(answer: Any) -> None:
            # In the threads pool this is another thread, and the event loop is woken.
            self._outcomes.append(BatchOutcome(batch, answer if isinstance(answer, Answer) else None))
            self._schedule_dispatch()

        task = self._consumer.app.tasks[batch[0].headers["task"]]
        self._jobs[id(batch)] = pool.apply_async(
            execute_batch,
            args=(
                batch[0].headers["task"],
                self._consumer.hostname,
                [Item(message.body, message.headers, _delivery_info(message)) for message in batch],
            ),
            callback=on_answer,
            error_callback=on_answer,
            soft_timeout=task.soft_time_limit,
            timeout=task.time_limit,
        )

    def _next_batch(self) -> list[Any]:
        """Take the next batch of what has arrived, of one task, but what was revoked since."""
        batch: list[Any] = []
        while self._arrived:
            name = self._arrived[0].headers["task"]
            if batch and (name != batch[0].headers["task"] or len(batch) >= self._limits[name]):
                break
            batch.append(self._arrived.popleft())
        revoked = [message for message in batch if message.headers["id"] in state.revoked]
        for message in revoked:
            self._consumer.receive_alone(message)
        return [message for message in batch if message not in revoked] if revoked else batch

    def fail(self, _: Exception) -> None:
        """Have each of a batch that could not be handed over tried alone."""
        for message in self._current_batch:
            self._consumer.receive_alone(message)

    def _settle(self, outcomes: Collection[BatchOutcome]) -> None:
        done = []
        for messages, answer in outcomes:
            if answer is None:
                logger.error("A pool process was lost: %d messages are given back.", len(messages))
                for message in messages:
                    message.reject_log_error(logger, self._consumer.connection_errors, requeue=True)
                continue
            done += [(messages[it.number], it) for it in answer.finished]
            for number in answer.not_executed:
                self._consumer.receive_alone(messages[number])
        self._unsettled.acknowledge([message for message, _ in done])
        self._report(done)

    def settle_and_requeue(self) -> None:
        """At the end: settle what has come back, and give back the rest."""
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
        """Send the signal with what a receiver gets for a message alone: Celery's request."""
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
        """Return what sends events of tasks, or None while nobody wants any."""
        events: Dispatcher | None = self._consumer.event_dispatcher
        wanted = events and events.enabled and (not events.groups or "task" in events.groups)
        return events if wanted else None


def _start_events(
    headers: Mapping[str, Any],
) -> tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]:
    """Return the events of a message that is handed over."""
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
    """What a task's request tells of the delivery, as Celery's own has it."""
    info, properties = message.delivery_info or {}, message.properties or {}
    return {
        "exchange": info.get("exchange"),
        "routing_key": info.get("routing_key"),
        "priority": properties.get("priority"),
        "redelivered": info.get("redelivered", False),
    }
