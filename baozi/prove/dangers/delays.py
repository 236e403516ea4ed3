"""Dangers of time: tasks that take long, and calls that are delayed."""

import time

from baozi.prove.dangers.demonstration import demonstrates
from baozi.prove.dangers.trial import DangerTrial

#: What the doctor needs to see in an app's code.
_LATER = """
@app.task
def work(seconds=0):
    time.sleep(seconds)


def later(seconds):
    work.apply_async(countdown=30)
"""


@demonstrates(
    "BZ116",
    "executions of one message after the first",
    "task_time_limit = None",
    "task_soft_time_limit = 2  # seconds, below the consumer timeout",
)
def consumer_timeout(trial: DangerTrial) -> int:
    """A task takes 8 seconds, and the consumer timeout is 4 seconds instead of 30 minutes."""
    with trial.consumer_timeout(4):
        trial.start_worker()
        trial.call(1, 8)
        time.sleep(16)
    return trial.executions - 1


@demonstrates(
    "BZ117",
    "calls not executed within 8 s",
    "task_queues = [queue(exchange='direct')]\ntask_default_exchange_type = 'direct'",
    "task_queues = [queue(exchange='topic')]\ntask_default_exchange_type = 'topic'",
    of=3,
    tasks=_LATER,
)
def delayed_calls_first(trial: DangerTrial) -> int:
    """Four calls are due in 30 seconds. Then three calls are made that are due at once."""
    trial.start_worker()
    trial.call(4, countdown=30)
    time.sleep(2)
    trial.call(3)
    trial.within(8, lambda: trial.succeeded >= 3)
    return 3 - trial.succeeded


_RETRIES = """
@app.task(bind=True, max_retries=5)
def work(self):
    if self.request.retries < 4:
        raise self.retry(countdown=1)
"""


@demonstrates("BZ118", "calls lost", of=3, tasks=_RETRIES, gone="Celery 5.6.3 and later", finds=())
def four_retries(trial: DangerTrial) -> int:
    """Three tasks are retried four times, each after a second."""
    trial.start_worker()
    trial.call(3)
    trial.settle(40)
    return trial.lost()


_IN_MEMORY = """\
task_queues = [classic()]
task_reject_on_worker_lost = False
task_retry_on_worker_lost = True
task_acks_on_timeout = True"""


@demonstrates(
    "BZ119",
    "messages in a worker's memory",
    _IN_MEMORY,
    f"{_IN_MEMORY}\nworker_eta_task_limit = 10",
    of=50,
    most=11,
    tasks=_LATER,
)
def fifty_delayed_calls(trial: DangerTrial) -> int:
    """Fifty calls are due in a minute. There is one worker."""
    trial.start_worker()
    trial.call(50, countdown=60)
    trial.within(20, lambda: trial.received == 50)
    return trial.received


@demonstrates(
    "BZ121",
    "short calls not executed within 5 s",
    "worker_prefetch_multiplier = 4\ntask_time_limit = 600",
    "worker_prefetch_multiplier = 1\ntask_time_limit = 600",
    of=3,
)
def behind_a_long_task(trial: DangerTrial) -> int:
    """A worker gets a long task and three short ones. Another worker is idle."""
    trial.start_worker()
    trial.call(1, 20)
    trial.wait_for(started=1)
    trial.call(3)
    time.sleep(1)
    trial.start_worker()
    trial.within(5, lambda: trial.succeeded >= 3)
    return 3 - trial.succeeded
