"""Clock faults: a worker and a producer on a machine whose clock jumps."""

from random import Random

from side_by_side.faults.strike import Strike, Struck
from side_by_side.kitchen import Kitchen

#: The program that jumps with its clock.
_JUMPING = ("side_by_side.faults.jumping",)
#: Baozi that such a producer puts; seconds in which it must have done so, and such a worker eaten some.
_COUNT, _IN_TIME = 300, 60


def jump_clocks(kitchen: Kitchen, _: Random) -> Struck:
    """Have a worker and a producer join whose clocks jump an hour to and fro, twice a second."""
    worker = kitchen.start_worker(kitchen.new_name("clock"), before=_JUMPING)
    producer = kitchen.start_producer(kitchen.new_name("clock"), _COUNT, before=_JUMPING)
    kitchen.mark()
    kitchen.wait(lambda: producer.process.poll() == 0, f"{producer.name} to put all", _IN_TIME)
    kitchen.wait_for_eating_of(worker.name, _IN_TIME)
    kitchen.send_home(worker)
    return Struck("a worker and a producer")


STRIKES = (Strike("jump-clocks", "nothing hangs, nothing is counted twice", jump_clocks),)
