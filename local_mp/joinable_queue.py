"""Row 5, ``joinable-queue``: producer and consumer with a JoinableQueue, and no ``None``.

The course: the queue counts what was put and not yet dealt with. ``task_done()`` counts one down, and
``join()`` waits for the count to be nought. So a producer knows when all was *eaten*, not only when all was
put.

It shows three producers that ``join()`` the queue, and two consumers that are daemons: nobody tells them to
stop, they end with their parent, which waits for the producers alone. When the last producer returns
nothing is left.

It cannot bear a death. Who dies between ``get`` and ``task_done()`` leaves the count too high, and so does
a killed producer, whose last items were counted but never sent: ``join()`` then waits for ever, for it
takes no timeout.
"""

import time
from multiprocessing.queues import JoinableQueue
from typing import Any

from baozi.journal import Event, Journal
from baozi.model import Baozi
from baozi.workload import Workload
from local_mp.stage import Role, Stage, note

#: Three producers make two each.
COURSE = Workload(
    producers=("生产者1", "生产者2", "生产者3"), per_producer=2, consumers=("消费者1", "消费者2")
)


def producer(queue: "JoinableQueue[list[Baozi]]", name: str, workload: Workload, journal: Journal) -> None:
    """Make baozi and put them, a tray at a time; then wait until all are eaten, the others' too."""
    for tray in workload.trays(name):
        note(journal, Event.ATTEMPTED, tray)
        queue.put(tray)
        note(journal, Event.ACCEPTED, tray)
        for baozi in tray:
            print(f"{name} 生产了{baozi.number}包子")
    queue.join()


def consumer(queue: "JoinableQueue[list[Baozi]]", name: str, workload: Workload, journal: Journal) -> None:
    """Get trays, eat what is on them, and say so; for ever."""
    while True:
        tray = queue.get()
        note(journal, Event.STARTED, tray)
        for baozi in tray:
            time.sleep(workload.eat_seconds)
            journal.write(Event.EATEN, baozi.id)
            print(f"{name}吃了{baozi.number}包子")
        queue.task_done()  # only now: who is killed before this has not eaten


def run(stage: Stage) -> None:
    """Do the stage's workload on a queue of multiprocessing's.

    Raises:
        DeadlinePassed, ActorFailed: as Stage.wait says.
    """
    run_on(stage.mp.JoinableQueue(stage.workload.capacity or 0), stage)  # 0: no bound


def run_on(queue: Any, stage: Stage) -> None:
    """Start all and wait for the producers: when they are back, everything is eaten.

    Args:
        queue: a JoinableQueue, multiprocessing's or another with its interface.
        stage: where the processes are started.

    Raises:
        DeadlinePassed, ActorFailed: as Stage.wait says.
    """
    for name in stage.workload.consumers:
        stage.start(Role.CONSUMER, consumer, queue, name, daemon=True)
    producers = [stage.start(Role.PRODUCER, producer, queue, name) for name in stage.workload.producers]
    stage.wait(producers)
    stage.say("主进程")  # and with the parent the daemons end
