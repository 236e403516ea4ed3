"""Row 2, ``pipe-lock``: producer and consumer with a pipe, its locks taken by hand.

The course: a Queue is a pipe and a lock.

It shows what a Queue does for you. A pipe has an end to write and an end to read. Two who write at once mix
up their bytes, and so do two who read: so each end has a lock. A pipe does not count what is in it: so a
semaphore does, and a put waits when its slots are used up.

It cannot hold more than the operating system's buffer, 64 KiB on Linux: without a capacity, put waits when
that is full (a Queue has a thread and a buffer of its own for that). It cannot bear a death: a reader that
is killed while it waits in ``recv`` never gives the lock back, and the others wait for ever. It cannot
cross machines.
"""

import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Lock, Semaphore
from typing import NamedTuple

from baozi.journal import Event, Journal
from baozi.model import Baozi
from baozi.workload import Workload
from local_mp.stage import Role, Stage, note

#: As many slots as every operating system can count; its own buffer is full long before.
MANY = 32_767

COURSE = Workload()


class LockedPipe(NamedTuple):
    """Both ends of a pipe, a lock for each, and the slots that are still free in it."""

    receiver: "Connection[list[Baozi] | None, list[Baozi] | None]"
    sender: "Connection[list[Baozi] | None, list[Baozi] | None]"
    receiver_lock: Lock
    sender_lock: Lock
    slots: Semaphore


def producer(pipe: LockedPipe, name: str, workload: Workload, journal: Journal) -> None:
    """Make baozi and send them, a tray at a time (the course's tray holds one)."""
    for tray in workload.trays(name):
        note(journal, Event.ATTEMPTED, tray)
        pipe.slots.acquire()  # waits while the pipe is full
        with pipe.sender_lock:
            pipe.sender.send(tray)
        note(journal, Event.ACCEPTED, tray)
        for baozi in tray:
            print(baozi.made_line)


def consumer(pipe: LockedPipe, name: str, workload: Workload, journal: Journal) -> None:
    """Receive trays and eat what is on them, until ``None`` comes."""
    while True:
        with pipe.receiver_lock:
            tray = pipe.receiver.recv()  # waits while the pipe is empty, and keeps the lock while it waits
        pipe.slots.release()
        if tray is None:
            break
        note(journal, Event.STARTED, tray)
        for baozi in tray:
            time.sleep(workload.eat_seconds)
            journal.write(Event.EATEN, baozi.id)
            print(baozi.eaten_line(name))


def close(pipe: LockedPipe, _name: str, workload: Workload, _journal: Journal) -> None:
    """Send one ``None`` for each consumer."""
    for _ in workload.consumers:
        pipe.slots.acquire()
        with pipe.sender_lock:
            pipe.sender.send(None)


def run(stage: Stage) -> None:
    """Start all, wait for the producers, then have the consumers stopped.

    Raises:
        DeadlinePassed, ActorFailed: as Stage.wait says.
    """
    receiver, sender = stage.mp.Pipe(duplex=False)
    slots = stage.mp.Semaphore(stage.workload.capacity or MANY)
    pipe = LockedPipe(receiver, sender, stage.mp.Lock(), stage.mp.Lock(), slots)
    producers = [stage.start(Role.PRODUCER, producer, pipe, name) for name in stage.workload.producers]
    consumers = [stage.start(Role.CONSUMER, consumer, pipe, name) for name in stage.workload.consumers]
    stage.wait(producers)
    # A process of its own sends the None: a send can wait for ever, and the parent must be free to end it.
    stage.start(Role.CLOSER, close, pipe, "close")
    stage.wait(consumers)
    stage.say("主进程")
