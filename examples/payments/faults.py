"""Which faults there are, and in which order a seed chooses them."""

from collections.abc import Iterator
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """A fault."""

    CHILD = "kill a pool process"
    WORKER = "kill a worker"
    PRODUCER = "kill a producer"
    BROKER = "kill the broker"
    CUT_BROKER = "cut the connections to the broker"
    CUT_DATABASE = "cut the connections to the database"

    @property
    def kills(self) -> bool:
        """Whether it is a ``kill -9``."""
        return self in _OFTEN


#: How often each kill comes up.
_OFTEN = {Fault.CHILD: 6, Fault.WORKER: 3, Fault.PRODUCER: 3, Fault.BROKER: 1}
#: After so many kills connections are cut.
_CUT_AFTER = 3


def chosen(seed: int, kills: int, has_server: bool) -> Iterator[Fault]:
    """Yield ``kills`` kills, and cuts between them: the same for the same seed.

    Args:
        seed: the chance.
        kills: how many. Each kind comes up once before any comes up again.
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
