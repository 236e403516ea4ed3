"""Clock faults: a worker and a producer on a machine whose clock jumps."""

from random import Random

from baozi.language import Sentence
from side_by_side.chaos_environment import ChaosEnvironment
from side_by_side.faults.fault import Effect, Fault

#: The module that runs a program on a clock that jumps.
_JUMPING = ("side_by_side.faults.jumping_clock",)
#: Baozi that the producer puts; seconds in which it must have put them and the worker must have eaten one.
_COUNT, _DEADLINE = 300, 60


def jump_clocks(environment: ChaosEnvironment, _: Random) -> Effect:
    """Start a worker and a producer whose clocks jump by an hour, forward and back, twice a second."""
    worker = environment.start_worker(environment.new_name("clock"), before=_JUMPING)
    producer = environment.start_producer(environment.new_name("clock"), _COUNT, before=_JUMPING)
    environment.start_recovery_clock()
    environment.wait_until(lambda: producer.process.poll() == 0, f"{producer.name} to put all", _DEADLINE)
    environment.wait_until_eats(worker.name, _DEADLINE)
    environment.stop_worker(worker)
    return Effect(Sentence("a worker and a producer"))


FAULTS = (
    Fault(
        "jump-clocks",
        "Adds a worker and a producer whose clocks jump by an hour, twice a second.",
        "no process hangs, no baozi is counted twice",
        jump_clocks,
    ),
)
