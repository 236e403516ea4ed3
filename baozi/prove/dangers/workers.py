"""Dangers of workers: their connections, their pools and their end."""

import time
from functools import partial
from typing import Any

from baozi.prove.dangers.demonstration import demonstrates
from baozi.prove.dangers.trial import DangerTrial


@demonstrates(
    "BZ120",
    "pool processes idle",
    "worker_enable_prefetch_count_reduction = True",
    of=4,
    gone="Celery 5.7",
    finds=(),
)
def prefetch_after_a_cut(trial: DangerTrial) -> int:
    """A worker with four pool processes has eight tasks of 45 seconds. Its connection is cut."""
    worker = trial.start_worker(4)
    trial.call(8, 45)
    trial.wait_for(started=4)
    trial.proxy.cut()
    trial.within(25, lambda: trial.busy(worker) == 4 and trial.executions >= 8)
    return 4 - trial.busy(worker)


@demonstrates(
    "BZ122",
    "calls executed twice to the end",
    "worker_cancel_long_running_tasks_on_connection_loss = False",
    of=2,
)
def cut_connection(trial: DangerTrial) -> int:
    """Two tasks of six seconds are executed when the worker's connection is cut."""
    trial.start_worker(2)
    trial.call(2, 6)
    trial.wait_for(started=2)
    trial.proxy.cut()
    trial.within(20, lambda: sum(it.succeeded > 1 for it in trial.calls) >= 2)
    return sum(it.succeeded > 1 for it in trial.calls)


@demonstrates(
    "BZ123",
    "calls not executed within 30 s",
    "broker_heartbeat = 0",
    "broker_heartbeat = 4",
    of=3,
)
def dropped_connection(trial: DangerTrial) -> int:
    """The worker's connection is dropped, and neither end is told. Then three calls are made."""
    trial.start_worker()
    trial.proxy.drop()
    trial.call(3)
    trial.within(30, lambda: trial.succeeded >= 3)
    return 3 - trial.succeeded


@demonstrates(
    "BZ124",
    "executions after the first",
    "worker_soft_shutdown_timeout = 0",
    gone="Celery 5.6.1 and later",
    finds=(),
)
def warm_shutdown(trial: DangerTrial) -> int:
    """A worker gets SIGTERM and finishes a task of 20 seconds. Another worker runs. The heartbeat is 4 s."""
    worker = trial.start_worker()
    trial.call(1, 20)
    trial.wait_for(started=1)
    trial.start_worker()
    worker.process.terminate()
    trial.within(40, lambda: worker.process.poll() is not None)
    trial.settle(30)
    return trial.executions - 1


@demonstrates(
    "BZ125",
    "calls not executed within 40 s",
    "broker_connection_max_retries = 2",
    of=3,
)
def broker_away(trial: DangerTrial) -> int:
    """The broker is away for 15 seconds. Then three calls are made. Celery's default is 100 retries."""
    trial.start_worker()
    with trial.broker_away():
        time.sleep(15)
    trial.call(3)
    trial.within(40, lambda: trial.succeeded >= 3)
    return 3 - trial.succeeded


@demonstrates(
    "BZ126",
    "workers that end",
    "broker_channel_error_retry = False",
    of=1,
)
def closed_channel(trial: DangerTrial) -> int:
    """The broker closes the worker's channel, because a task takes longer than the consumer timeout."""
    with trial.consumer_timeout(3):
        worker = trial.start_worker()
        trial.call(1, 6)
        trial.within(20, lambda: worker.process.poll() is not None)
    return int(worker.process.poll() is not None)


@demonstrates(
    "BZ127",
    "messages between 4 idle workers in 10 s",
    instead="celery worker --without-gossip --without-mingle --without-heartbeat",
    finds=(),
)
def gossip(trial: DangerTrial) -> int:
    """Four workers have nothing to do."""
    for _ in range(4):
        trial.start_worker(1, "-P", "solo", gossip=not trial.fixed)
    before = trial.delivered()
    time.sleep(10)
    return trial.delivered() - before


@demonstrates(
    "BZ129",
    "workers that are not ready within 15 s",
    "control_queue_exclusive = True\ncontrol_queue_durable = False",
    of=1,
)
def same_name(trial: DangerTrial) -> int:
    """A worker is started again under its name before the old process has ended."""
    trial.start_worker(1, "-n", "one@%h")
    trial.start_worker(1, "-n", "one@%h", ready=False)
    return int(not trial.within(15, lambda: len(trial.records.workers) == 2))


@demonstrates(
    "BZ130",
    "connections for ten calls",
    "broker_pool_limit = 0",
    most=2,
)
def connections(trial: DangerTrial) -> int:
    """One process makes ten calls."""
    trial.call(10)
    return trial.proxy.accepted


@demonstrates(
    "BZ131",
    "workers killed after their grace period",
    "worker_soft_shutdown_timeout = 2",
    "worker_soft_shutdown_timeout = 2",
    of=1,
    instead="REMAP_SIGTERM=SIGQUIT  # in the environment of the container",
    finds=(),
)
def container_stop(trial: DangerTrial) -> int:
    """A worker with a task of 20 seconds is stopped as a container is: SIGTERM, and SIGKILL 6 s later."""
    worker = trial.start_worker(environment={"REMAP_SIGTERM": "SIGQUIT"} if trial.fixed else {})
    trial.call(1, 20)
    trial.wait_for(started=1)
    return int(not trial.stop(worker, 6))


_LEAK = """
kept = []


@app.task
def work():
    kept.append(bytearray(20_000_000))
"""


@demonstrates(
    "BZ132",
    "MB in a pool process",
    "worker_max_memory_per_child = None",
    "worker_max_memory_per_child = 100_000  # kilobytes",
    most=200,
    tasks=_LEAK,
)
def leak(trial: DangerTrial) -> int:
    """Each of 15 calls keeps 20 MB."""
    worker = trial.start_worker()
    trial.call(15)
    return trial.peak_memory(worker, 8, pool=True) // 10**6


@demonstrates(
    "BZ133",
    "calls that pass their time limit",
    "worker_pool = 'threads'\ntask_time_limit = 1",
    "worker_pool = 'prefork'\ntask_time_limit = 1",
    of=2,
)
def time_limit(trial: DangerTrial) -> int:
    """Two tasks take three seconds. Their time limit is one second."""
    trial.start_worker(2)
    trial.call(2, 3)
    trial.wait_for(started=2)
    trial.within(6, lambda: trial.succeeded == 2)
    return trial.succeeded


def _with_two_taken(trial: DangerTrial) -> dict[str, Any]:
    """Return the queue as soon as the management API, which is late by some seconds, has both messages."""
    queue = trial.queue("work")
    return queue if queue.get("messages_unacknowledged") == 2 else {}


@demonstrates(
    "BZ134",
    "tasks executed again",
    of=2,
    instead="The autoscaler counts unacknowledged messages too.",
    finds=(),
)
def autoscaler(trial: DangerTrial) -> int:
    """An autoscaler stops the worker when no message waits. Two tasks of 8 seconds are executed then."""
    worker = trial.start_worker(2)
    trial.call(2, 8)
    trial.wait_for(started=2)
    queue = trial.wait_until(partial(_with_two_taken, trial), "the management API", 30)
    waiting = queue["messages_ready"] + (queue["messages_unacknowledged"] if trial.fixed else 0)
    if waiting == 0:
        trial.stop(worker, 3)
        trial.start_worker(2)
    trial.settle(30)
    return trial.executions - 2
