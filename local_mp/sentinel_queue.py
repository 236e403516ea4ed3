"""Row 4, ``queue``: producer and consumer with a Queue, stopped by ``None``.

The course: a Queue evens out the speed of who makes and who eats, and neither needs to know the other.

It shows three producers and two consumers at one Queue. A consumer cannot know whether more will come, so
it is told: ``None`` says "no more". The course has one ``None`` for each producer. It must be one for each
*consumer*, since each takes one and stops; and it must come after *every* producer has finished, or a
consumer goes home while baozi are still being made.

It cannot cross machines, and the Queue lives and dies with its processes. ``put`` returns once the item is
in a buffer of the producer's own process: a producer that is killed takes that buffer along. A consumer
that is killed while it waits in ``get`` holds the Queue's lock for ever, and no other consumer gets
anything again.
"""

import time
from multiprocessing.queues import Queue

from baozi.journal import Event, Journal
from baozi.model import Baozi
from baozi.workload import Workload
from local_mp.stage import Role, Stage, note

#: Three producers make ten each, one a second; two consumers eat one every two seconds.
COURSE = Workload()


def producer(queue: "Queue[list[Baozi] | None]", name: str, workload: Workload, journal: Journal) -> None:
    """Make baozi and put them, a tray at a time (the course's tray holds one)."""
    for tray in workload.trays(name):
        note(journal, Event.ATTEMPTED, tray)
        queue.put(tray)  # waits while the queue is full
        note(journal, Event.ACCEPTED, tray)
        for baozi in tray:
            print(baozi.made_line)


def consumer(queue: "Queue[list[Baozi] | None]", name: str, workload: Workload, journal: Journal) -> None:
    """Get trays and eat what is on them, until ``None`` comes."""
    while (tray := queue.get()) is not None:  # get waits while the queue is empty
        note(journal, Event.STARTED, tray)
        for baozi in tray:
            time.sleep(workload.eat_seconds)
            journal.write(Event.EATEN, baozi.id)
            print(baozi.eaten_line(name))


def close(queue: "Queue[list[Baozi] | None]", _name: str, workload: Workload, _journal: Journal) -> None:
    """Put one ``None`` for each consumer."""
    for _ in workload.consumers:
        queue.put(None)


def run(stage: Stage) -> None:
    """Start all, wait for the producers, then have the consumers stopped.

    Raises:
        DeadlinePassed, ActorFailed: as Stage.wait says.
    """
    queue: Queue[list[Baozi] | None] = stage.mp.Queue(stage.workload.capacity or 0)  # 0: no bound
    producers = [stage.start(Role.PRODUCER, producer, queue, name) for name in stage.workload.producers]
    consumers = [stage.start(Role.CONSUMER, consumer, queue, name) for name in stage.workload.consumers]
    stage.wait(producers)
    # A process of its own puts the None: a put can wait for ever, and the parent must be free to end it.
    stage.start(Role.CLOSER, close, queue, "close")
    stage.wait(consumers)
    stage.say("主进程")
