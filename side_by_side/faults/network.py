"""Faults of the network between the broker and all its clients, made by a TCP proxy."""

from collections.abc import Callable
from functools import partial
from random import Random

from side_by_side.chaos_environment import ChaosEnvironment
from side_by_side.faults.fault import Effect, Fault
from side_by_side.faults.proxy import NetworkCondition

#: Seconds that a bad condition lasts: longer than two heartbeats of a worker, shorter than a put may take.
_LASTS = 5.0
#: Bytes after which a connection is cut: within a handshake, a batch of deliveries or a message.
_SHORTEST, _LONGEST = 300, 20_000
#: Bytes after which a frame stops: within its head of seven bytes, or shortly after it.
_WITHIN_A_FRAME = 10

_HOLDS = "each put is confirmed, or raises by its deadline; 0 lost; no process needs a restart"


def _cut(environment: ChaosEnvironment, _: Random, *, reset: bool) -> Effect:
    environment.start_recovery_clock()
    ended = sum(proxy.cut(reset) for proxy in environment.proxies)
    return Effect(f"{ended} connections", environment.most_redelivered)


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
    return Effect("all connections", environment.most_redelivered * (20 if chosen.cut_after else 2))


#: The bad conditions by name. Random lengths are chosen anew each time.
CONDITIONS: dict[str, Callable[[Random], NetworkCondition]] = {
    "blackhole": lambda _: NetworkCondition(up=False, down=False),
    "only-to-the-broker": lambda _: NetworkCondition(down=False),
    "only-from-the-broker": lambda _: NetworkCondition(up=False),
    "latency": lambda _: NetworkCondition(latency=1, jitter=0.5),
    "one-byte-at-a-time": lambda _: NetworkCondition(one_by_one=True),
    "halt-in-a-frame": lambda chance: NetworkCondition(halt_after=chance.randint(1, _WITHIN_A_FRAME)),
    "cut-after-bytes": lambda chance: NetworkCondition(cut_after=chance.randint(_SHORTEST, _LONGEST)),
}

_DOES = {
    "blackhole": "No byte arrives, in either direction.",
    "only-to-the-broker": "No byte from the broker arrives.",
    "only-from-the-broker": "No byte from the clients arrives.",
    "latency": "Each chunk arrives about a second late.",
    "one-byte-at-a-time": "Each byte is sent in a packet of its own.",
    "halt-in-a-frame": "The broker's bytes stop in the middle of a frame.",
    "cut-after-bytes": "Each connection is reset after some bytes.",
}

FAULTS = (
    Fault("cut", "Closes every connection.", _HOLDS, partial(_cut, reset=False)),
    Fault("reset", "Resets every connection.", _HOLDS, partial(_cut, reset=True)),
    *(
        Fault(name, _DOES[name], _HOLDS, partial(_bad_condition, condition=condition))
        for name, condition in CONDITIONS.items()
    ),
)
