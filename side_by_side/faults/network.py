"""Faults of the network between the broker and all its clients, made by a TCP proxy."""

from collections.abc import Callable
from functools import partial
from random import Random

from baozi.faults.conditions import CONDITIONS, DOES
from baozi.faults.proxy import NetworkCondition
from baozi.language import Sentence
from side_by_side.chaos_environment import ChaosEnvironment
from side_by_side.faults.fault import Effect, Fault

#: Seconds that a bad condition lasts: longer than two heartbeats of a worker, shorter than a put may take.
_LASTS = 5.0

_HOLDS = "each put is confirmed, or raises by its deadline; 0 lost; no process needs a restart"


def _cut(environment: ChaosEnvironment, _: Random, *, reset: bool) -> Effect:
    environment.start_recovery_clock()
    ended = sum(proxy.cut(reset) for proxy in environment.proxies)
    return Effect(Sentence("{count} connections", count=ended), environment.most_redelivered)


def _bad_condition(
    environment: ChaosEnvironment, chance: Random, *, condition: Callable[[Random], NetworkCondition]
) -> Effect:
    chosen = condition(chance)
    for proxy in environment.proxies:
        proxy.set_condition(chosen)
    try:
        environment.pause(_LASTS)
    finally:
        environment.start_recovery_clock()
        for proxy in environment.proxies:
            proxy.set_condition(NetworkCondition())
    # Meanwhile a connection may be lost, opened and lost again, each time with unacknowledged messages.
    most = environment.most_redelivered * (20 if chosen.cut_after else 2)
    return Effect(Sentence("all connections"), most)


FAULTS = (
    Fault("cut", "Closes every connection.", _HOLDS, partial(_cut, reset=False)),
    Fault("reset", "Resets every connection.", _HOLDS, partial(_cut, reset=True)),
    *(
        Fault(name, DOES[name], _HOLDS, partial(_bad_condition, condition=condition))
        for name, condition in CONDITIONS.items()
    ),
)
