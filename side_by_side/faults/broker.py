"""Faults of the broker: it is killed, it is away, it has no memory or no disk space left."""

from random import Random

import psutil

from baozi.language import Sentence
from side_by_side.chaos_environment import ChaosEnvironment, PromiseBroken
from side_by_side.faults.fault import Effect, Fault, Killed

#: Seconds that an alarm stays on after it has stopped the producers.
_ALARM = 2
#: Baozi that are eaten while an alarm is on. The broker does not read the workers' events then: there are
#: more of them than a socket's buffers hold.
_BURST = 20_000
#: Seconds for an alarm to stop the producers; for the workers to eat a burst.
_SEEN, _EATEN = 20, 90
#: Bytes by which a producer's memory may grow while the broker is away: some pages, not a queue.
_MOST_GROWTH = 10_000_000


def kill_broker(environment: ChaosEnvironment, chance: Random) -> Effect:
    """``kill -9`` the broker, and start it again."""
    environment.start_recovery_clock()
    environment.broker.kill(chance)
    environment.ignore_eaten_so_far()
    environment.broker.revive()
    return Effect(Sentence("the broker"), environment.most_redelivered)


def broker_away(environment: ChaosEnvironment, chance: Random) -> Effect:
    """``kill -9`` the broker, and start it again after ``away_seconds``."""
    before = _largest_producer(environment)
    environment.broker.kill(chance)
    environment.pause(environment.configuration.away_seconds)
    environment.start_recovery_clock()
    grown = _largest_producer(environment) - before
    environment.broker.revive()
    if grown > _MOST_GROWTH:
        raise PromiseBroken("A producer grew by {grown} bytes while the broker was away.", grown=grown)
    return Effect(
        Sentence("the broker, for {seconds:g} s", seconds=environment.configuration.away_seconds),
        environment.most_redelivered,
    )


def _largest_producer(environment: ChaosEnvironment) -> int:
    sizes = [psutil.Process(it.process.pid).memory_info().rss for it in environment.producers()]
    return max(sizes)


def memory_alarm(environment: ChaosEnvironment, _: Random) -> Effect:
    """Set the broker's memory limit so low that its memory alarm is on; then clear the alarm."""
    watermark = "set_vm_memory_high_watermark"
    return _alarm(environment, (watermark, "0.000001"), (watermark, "0.6"))


def disk_alarm(environment: ChaosEnvironment, _: Random) -> Effect:
    """Set the broker's limit of free disk space so high that its disk alarm is on; then clear the alarm."""
    return _alarm(environment, ("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB"))


def _alarm(environment: ChaosEnvironment, on: tuple[str, ...], off: tuple[str, ...]) -> Effect:
    burst = environment.start_producer(environment.new_name("burst"), _BURST)
    environment.wait_until(lambda: burst.process.poll() is not None, "a burst to be put", _EATEN)
    environment.broker.control(*on)
    try:
        environment.wait_until(
            environment.records.producers_are_silent, "the alarm to stop the producers", _SEEN
        )
        environment.wait_until(
            lambda: environment.ready_messages() == 0, "the workers to eat what is in the queue", _EATEN
        )
        environment.pause(_ALARM)
    finally:
        environment.start_recovery_clock()
        environment.broker.control(*off)
    return Effect(Sentence("all publishers"))


FAULTS = (
    Fault(
        "kill-broker",
        "Kills the broker, or one node of a cluster, and starts it again.",
        "0 lost; no process needs a restart; the time to the next eaten baozi is recorded",
        kill_broker,
        kills=Killed.BROKER,
        weight=2,
    ),
    Fault(
        "broker-away",
        "Kills the broker, or one node of a cluster, and starts it again after --away seconds.",
        "the same; a producer's memory does not grow",
        broker_away,
        kills=Killed.BROKER,
    ),
    Fault(
        "memory-alarm",
        "Turns the broker's memory alarm on: it accepts no messages until the alarm is off.",
        "producers wait, workers eat; all work goes on when the alarm is off",
        memory_alarm,
    ),
    Fault(
        "disk-alarm",
        "Turns the broker's disk alarm on: it accepts no messages until the alarm is off.",
        "producers wait, workers eat; all work goes on when the alarm is off",
        disk_alarm,
    ),
)
