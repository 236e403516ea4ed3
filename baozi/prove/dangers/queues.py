"""Dangers of queues: their type, limits and dead letters."""

import time

from baozi.prove.dangers.demonstration import DANGERS, demonstrates
from baozi.prove.dangers.executions import FAILS, POISON
from baozi.prove.dangers.trial import DEAD, DangerTrial


@demonstrates(
    "BZ110",
    "executions of one message, counted up to 6",
    "task_queues = None",
    f"task_queues = None\n{DANGERS['BZ110'].instead}",
    most=3,
    tasks=POISON,
    finds=("BZ110",),
    leaves=("BZ112",),
)
def policy_for_all_queues(trial: DangerTrial) -> int:
    """A policy sets a delivery limit of 2 for all queues. One message kills each process that executes it."""
    trial.set_policy({"delivery-limit": 2})
    trial.start_worker()
    trial.call()
    return trial.executions_at_most(6)


@demonstrates("BZ111", "calls that no worker executes", "task_create_missing_queues = True", of=5)
def misspelt_queue(trial: DangerTrial) -> int:
    """Five calls name a queue that does not exist. The worker consumes the app's own queue."""
    trial.start_worker()
    trial.calling(5, queue="wrok").process.wait(60)
    trial.settle(5)
    return trial.unfinished


@demonstrates(
    "BZ112",
    "calls lost",
    "task_queues = [queue(x_dead_letter_exchange=None, x_dead_letter_strategy=None)]",
    "task_queues = [queue()]  # x-dead-letter-exchange is work.dead",
    of=3,
    tasks=POISON,
)
def over_the_limit(trial: DangerTrial) -> int:
    """Three messages kill each process that executes them, until they are over the delivery limit."""
    trial.start_worker()
    trial.call(3)
    trial.wait_until(lambda: trial.executions >= 9, "three executions of each", 60)
    time.sleep(2)
    return trial.lost()


#: The method `basic.nack` of AMQP, which py-amqp does not have.
_NACK = (60, 120)


@demonstrates(
    "BZ113",
    "deliveries of one message, counted up to 10",
    most=3,
    instead="channel.basic_reject(delivery_tag, requeue=True)",
    finds=(),
    since=(4, 3),
)
def given_back(trial: DangerTrial) -> int:
    """A program gives a message back by `basic.nack`, again and again. The delivery limit is 2."""
    trial.call()
    with trial.channel() as channel:
        for number in range(10):
            message = channel.basic_get("work")
            if message is None:
                return number
            if trial.fixed:
                channel.basic_reject(message.delivery_tag, requeue=True)
            else:
                channel.send_method(_NACK, "Lbb", (message.delivery_tag, False, True))
            time.sleep(0.2)
    return 10


@demonstrates(
    "BZ114",
    "calls lost",
    "task_queues = [queue(x_dead_letter_strategy=None)]",
    "task_queues = [queue()]  # x-dead-letter-strategy is at-least-once, x-overflow is reject-publish",
    of=5,
    tasks=FAILS,
)
def dead_letters_without_a_queue(trial: DangerTrial) -> int:
    """Five tasks fail while the dead letters' queue is not bound. Then it is bound again."""
    trial.unbind_dead_letters()
    trial.start_worker()
    trial.call(5)
    trial.wait_until(lambda: all(it.failed for it in trial.calls), "the errors", 30)
    time.sleep(2)
    trial.bind_dead_letters()
    trial.within(20, lambda: trial.ready(DEAD) >= 5)
    return trial.lost()


_DROPS = "x_max_length=2, x_dead_letter_exchange=None, x_dead_letter_strategy=None"


@demonstrates(
    "BZ115",
    "calls lost",
    f"task_queues = [queue({_DROPS}, x_overflow='drop-head')]",
    f"task_queues = [queue({_DROPS}, x_overflow='reject-publish')]",
    of=10,
    leaves=("BZ112",),
)
def drops_the_oldest(trial: DangerTrial) -> int:
    """The queue holds two messages. Ten calls are made, and no worker runs."""
    trial.call(10, pause=0.2)
    return trial.lost()
