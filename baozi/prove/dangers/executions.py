"""Dangers of a task's execution: what becomes of its message if it is killed, fails or hangs."""

import time

from baozi.prove.dangers.demonstration import demonstrates
from baozi.prove.dangers.trial import DangerTrial

#: A worker whose main process sends a message again itself if its pool process is lost.
_SENT_AGAIN = "task_reject_on_worker_lost = False\ntask_retry_on_worker_lost = True"
#: A message that kills its process, and one that fails.
POISON = """
@app.task
def work():
    os.kill(os.getpid(), signal.SIGKILL)
"""
FAILS = """
@app.task
def work():
    raise ValueError("no flour")
"""


@demonstrates("BZ101", "calls lost", "task_acks_late = False", of=4)
def killed_worker(trial: DangerTrial) -> int:
    """A worker executes four tasks and is killed with its pool. Another worker is started."""
    worker = trial.start_worker(4)
    trial.call(4, 2)
    trial.wait_for(started=4)
    trial.kill(worker)
    trial.start_worker(4)
    trial.settle()
    return trial.lost()


@demonstrates(
    "BZ102",
    "calls lost",
    "task_reject_on_worker_lost = False\ntask_acks_on_failure = True",
    "task_reject_on_worker_lost = True\ntask_acks_on_failure = True",
    of=4,
    leaves=("BZ104",),
)
def killed_pool(trial: DangerTrial) -> int:
    """The pool processes that execute four tasks are killed. The worker goes on."""
    worker = trial.start_worker(4)
    trial.call(4, 2)
    trial.wait_for(started=4)
    trial.kill_pool(worker)
    trial.settle()
    return trial.lost()


@demonstrates(
    "BZ103",
    "executions of one message, counted up to 6",
    "task_queues = [classic()]",
    "task_queues = [queue()]  # x-delivery-limit is 2",
    most=3,
    tasks=POISON,
)
def message_that_kills(trial: DangerTrial) -> int:
    """One message kills each process that executes it."""
    trial.start_worker()
    trial.call()
    return trial.executions_at_most(6)


@demonstrates("BZ104", "calls lost", "task_acks_on_failure = True", of=5, tasks=FAILS)
def failing_task(trial: DangerTrial) -> int:
    """Five tasks raise an error. What the worker rejects is in the dead letters' queue, and not lost."""
    trial.start_worker()
    trial.call(5)
    trial.wait_until(lambda: all(it.failed for it in trial.calls), "the errors", 30)
    time.sleep(1)
    return trial.lost()


@demonstrates(
    "BZ105",
    "executions of one message, counted up to 6",
    f"task_queues = [classic()]\ntask_time_limit = 1\n{_SENT_AGAIN}",
    f"task_queues = [queue()]  # x-delivery-limit is 2\ntask_time_limit = 1\n{_SENT_AGAIN}",
    most=3,
)
def hanging_task(trial: DangerTrial) -> int:
    """One task hangs. Its time limit is a second."""
    trial.start_worker()
    trial.call(1, 60)
    return trial.executions_at_most(6)
