"""The faults of the example, and the sequence in which a seed chooses them."""

from collections.abc import Iterator
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """The kinds of faults."""

    CHILD = "kill a pool process"
    WORKER = "kill a worker"
    PRODUCER = "kill a producer"
    BROKER = "kill the broker"
    CUT_BROKER = "cut the connections to the broker"
    CUT_DATABASE = "cut the connections to the database"

    @property
    def kills(self) -> bool:
        """Whether it kills a process with SIGKILL."""
        return self in _OFTEN


#: How often each kind of kill is chosen, as a proportion.
_OFTEN = {Fault.CHILD: 6, Fault.WORKER: 3, Fault.PRODUCER: 3, Fault.BROKER: 1}
#: After how many kills a connection is cut.
_CUT_AFTER = 3


def chosen(seed: int, kills: int, has_server: bool) -> Iterator[Fault]:
    """Yield ``kills`` kills, with cut connections between them. The same seed gives the same sequence.

    Args:
        seed: the seed of the random numbers.
        kills: how many. Each kind is chosen once before any kind is chosen again.
        has_server: whether the database has connections that can be cut.
    """
    chance = Random(seed)
    cuts = [Fault.CUT_BROKER, Fault.CUT_DATABASE] if has_server else [Fault.CUT_BROKER]
    deal = list(_OFTEN)
    chance.shuffle(deal)
    for number in range(kills):
        if not deal:
            deal = [fault for fault, times in _OFTEN.items() for _ in range(times)]
            chance.shuffle(deal)
        yield deal.pop()
        if number % _CUT_AFTER == _CUT_AFTER - 1:
            yield cuts[number // _CUT_AFTER % len(cuts)]
