"""Dangers of publishing: messages that the broker refuses, cannot route or does not take."""

from baozi.prove.dangers.demonstration import DANGERS, demonstrates
from baozi.prove.dangers.trial import DangerTrial

_CONFIRMS = '"confirm_publish": True'
#: The doctor's timeouts are 5 seconds.
_TIMEOUTS = '"read_timeout": 1, "write_timeout": 1'


@demonstrates(
    "BZ106",
    "calls lost",
    "task_queues = [queue(x_max_length=1)]\nbroker_transport_options = {}",
    f"task_queues = [queue(x_max_length=1)]\nbroker_transport_options = {{{_CONFIRMS}, {_TIMEOUTS}}}",
    of=10,
)
def full_queue(trial: DangerTrial) -> int:
    """The queue holds one message, and refuses more. Ten calls are made, and no worker runs."""
    trial.call(10, pause=0.2)
    return trial.lost()


@demonstrates(
    "BZ107",
    "calls that do not return within 25 s",
    f"broker_transport_options = {{{_CONFIRMS}}}",
    f"broker_transport_options = {{{_CONFIRMS}, {_TIMEOUTS}}}",
    of=1,
)
def memory_alarm(trial: DangerTrial) -> int:
    """A call is made while the broker has a memory alarm."""
    with trial.memory_alarm():
        trial.calling(1)
        trial.within(25, lambda: trial.records.produced)
    return 1 - trial.records.produced


@demonstrates("BZ108", "calls lost", "task_annotations = None", of=5)
def misspelt_routing_key(trial: DangerTrial) -> int:
    """Five calls have a routing key that leads to no queue."""
    trial.call(1)  # Celery declares the exchange
    trial.call(5, exchange="work", routing_key="wrok")
    return trial.lost()


@demonstrates(
    "BZ109",
    "calls lost",
    "broker_transport_options = {}",
    DANGERS["BZ106"].instead,
    of=3,
    finds=("BZ106",),
)
def large_message(trial: DangerTrial) -> int:
    """Three messages are larger than the broker's `max_message_size`, which is 16 MiB."""
    trial.call(3, "x" * 17 * 1024**2)
    return trial.lost()
