"""Faults of the network between the broker and all who use it, made by proxies of our own."""

from collections.abc import Callable
from functools import partial
from random import Random

from side_by_side.faults.proxy import Weather
from side_by_side.faults.strike import Strike, Struck
from side_by_side.kitchen import Kitchen

#: Seconds that bad weather lasts: longer than two of the workers' heartbeats, shorter than a put may take.
_LASTS = 5.0
#: Bytes: within a handshake, a batch of deliveries, or a message.
_SHORTEST, _LONGEST = 300, 20_000
#: Bytes: of a frame's seven-byte head, or of what follows it in the shortest.
_WITHIN_A_FRAME = 10

_HOLDS = "each put is confirmed, or raises by its deadline; 0 lost; nobody needs a restart"


def _cut(kitchen: Kitchen, _: Random, *, reset: bool) -> Struck:
    kitchen.mark()
    ended = sum(proxy.cut(reset) for proxy in kitchen.proxies)
    return Struck(f"{ended} connections", kitchen.in_doubt)


def _spell(kitchen: Kitchen, chance: Random, *, weather: Callable[[Random], Weather]) -> Struck:
    now = weather(chance)
    for proxy in kitchen.proxies:
        proxy.become(now)
    try:
        kitchen.pause(_LASTS)
    finally:
        kitchen.mark()
        for proxy in kitchen.proxies:
            proxy.become(Weather())
    # Within the spell a connection may be lost, opened and lost again, each time with its hands full.
    return Struck("all connections", kitchen.in_doubt * (20 if now.cut_after else 2))


#: The weather of each; what takes a chance is asked anew each time.
SPELLS: dict[str, Callable[[Random], Weather]] = {
    "blackhole": lambda _: Weather(up=False, down=False),
    "only-to-the-broker": lambda _: Weather(down=False),
    "only-from-the-broker": lambda _: Weather(up=False),
    "latency": lambda _: Weather(latency=1, jitter=0.5),
    "one-byte-at-a-time": lambda _: Weather(one_by_one=True),
    "halt-in-a-frame": lambda chance: Weather(halt_after=chance.randint(1, _WITHIN_A_FRAME)),
    "cut-after-bytes": lambda chance: Weather(cut_after=chance.randint(_SHORTEST, _LONGEST)),
}

STRIKES = (
    Strike("cut", _HOLDS, partial(_cut, reset=False)),
    Strike("reset", _HOLDS, partial(_cut, reset=True)),
    *(Strike(name, _HOLDS, partial(_spell, weather=weather)) for name, weather in SPELLS.items()),
)
