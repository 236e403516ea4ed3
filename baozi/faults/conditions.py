"""Bad conditions of the network, by name."""

from collections.abc import Callable
from random import Random

from baozi.faults.proxy import NetworkCondition

#: Bytes after which a connection is cut: within a handshake, a batch of deliveries or a message.
_SHORTEST, _LONGEST = 300, 20_000
#: Bytes after which a frame stops: within its head of seven bytes, or shortly after it.
_WITHIN_A_FRAME = 10

#: Each condition. Random lengths are chosen anew each time.
CONDITIONS: dict[str, Callable[[Random], NetworkCondition]] = {
    "blackhole": lambda _: NetworkCondition(up=False, down=False),
    "only-to-the-broker": lambda _: NetworkCondition(down=False),
    "only-from-the-broker": lambda _: NetworkCondition(up=False),
    "latency": lambda _: NetworkCondition(latency=1, jitter=0.5),
    "one-byte-at-a-time": lambda _: NetworkCondition(one_by_one=True),
    "halt-in-a-frame": lambda chance: NetworkCondition(halt_after=chance.randint(1, _WITHIN_A_FRAME)),
    "cut-after-bytes": lambda chance: NetworkCondition(cut_after=chance.randint(_SHORTEST, _LONGEST)),
}

#: What each condition does, in one sentence.
DOES = {
    "blackhole": "No byte arrives, in either direction.",
    "only-to-the-broker": "No byte from the broker arrives.",
    "only-from-the-broker": "No byte from the clients arrives.",
    "latency": "Each chunk arrives about a second late.",
    "one-byte-at-a-time": "Each byte is sent in a separate packet.",
    "halt-in-a-frame": "The broker's bytes stop in the middle of a frame.",
    "cut-after-bytes": "Each connection is reset after some bytes.",
}
