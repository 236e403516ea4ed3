"""Faults of the broker: killed, away, without memory or disk."""

from random import Random

import psutil

from side_by_side.faults.strike import Strike, Struck, Victim
from side_by_side.kitchen import Broken, Kitchen

#: Seconds that an alarm stays on, once it is seen to block.
_ALARM = 2
#: Baozi that are eaten while an alarm is on. Their events, which the broker does not read then, are more than
#: the buffers of a socket hold.
_BURST = 20_000
#: Seconds for an alarm to be seen on a connection; for the workers to eat a burst.
_SEEN, _EATEN = 20, 90
#: Bytes that a producer may grow by while the broker is away: some pages, not a queue.
_FLAT = 10_000_000


def kill_broker(kitchen: Kitchen, chance: Random) -> Struck:
    """``kill -9`` the broker, and start it again."""
    kitchen.mark()
    kitchen.broker.kill(chance)
    kitchen.recount()
    kitchen.broker.revive()
    return Struck("the broker", kitchen.in_doubt)


def broker_away(kitchen: Kitchen, chance: Random) -> Struck:
    """``kill -9`` the broker, and start it again when it has been away for a while."""
    before = _largest(kitchen)
    kitchen.broker.kill(chance)
    kitchen.pause(kitchen.menu.away_seconds)
    kitchen.mark()
    grown = _largest(kitchen) - before
    kitchen.broker.revive()
    if grown > _FLAT:
        raise Broken(f"A producer grew by {grown} bytes while the broker was away.")
    return Struck(f"the broker, for {kitchen.menu.away_seconds:g} s", kitchen.in_doubt)


def _largest(kitchen: Kitchen) -> int:
    sizes = [psutil.Process(it.process.pid).memory_info().rss for it in kitchen.producers()]
    return max(sizes)


def memory_alarm(kitchen: Kitchen, _: Random) -> Struck:
    """Have the broker think that its memory is full: publishers wait, workers go on; then it clears."""
    watermark = "set_vm_memory_high_watermark"
    return _alarm(kitchen, (watermark, "0.000001"), (watermark, "0.6"))


def disk_alarm(kitchen: Kitchen, _: Random) -> Struck:
    """Have the broker think that its disk is full, as above."""
    return _alarm(kitchen, ("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB"))


def _alarm(kitchen: Kitchen, on: tuple[str, ...], off: tuple[str, ...]) -> Struck:
    burst = kitchen.start_producer(kitchen.new_name("burst"), _BURST)
    kitchen.wait(lambda: burst.process.poll() is not None, "a burst to be put", _EATEN)
    kitchen.broker.control(*on)
    try:
        kitchen.wait(kitchen.books.nobody_is_accepted, "the alarm to stop the producers", _SEEN)
        kitchen.wait(lambda: kitchen.waiting() == 0, "the workers to eat what there is meanwhile", _EATEN)
        kitchen.pause(_ALARM)
    finally:
        kitchen.mark()
        kitchen.broker.control(*off)
    return Struck("all who publish")


STRIKES = (
    Strike(
        "kill-broker",
        "0 lost; nobody needs a restart; the time to the first baozi after it is recorded",
        kill_broker,
        Victim.BROKER,
        often=2,
    ),
    Strike(
        "broker-away",
        "the same; a producer's memory stays flat",
        broker_away,
        Victim.BROKER,
    ),
    Strike(
        "memory-alarm",
        "producers wait, workers go on; all goes on when it clears",
        memory_alarm,
    ),
    Strike(
        "disk-alarm",
        "producers wait, workers go on; all goes on when it clears",
        disk_alarm,
    ),
)
