"""``python -m tests.integration.mutated CHANGE… -- MODULE …``: runs a program of ours with something changed.

A mutation takes away one setting that carries a promise, in this process and those that it forks; a poison
makes one baozi bad. Nothing of the program's own files is touched.
"""

import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from kombu import Exchange, Queue
from sqlalchemy import Engine
from sqlalchemy.event import listen

from baozi import file_systems
from baozi.journal import Event, WorkerJournal
from baozi.task import ReliableTask
from baozi.topology import TYPE, Topology
from baozi.worker import configuration
from side_by_side.removed_settings import REMOVED_SETTINGS, put_in_place
from tests.integration.raised import RAISED

#: The baozi that is a poison is this one of its producer's.
BAD = 1

late_acknowledgement_off = REMOVED_SETTINGS["late-acknowledgement"]
confirms_off = REMOVED_SETTINGS["confirms"]
ledgers_key_off = REMOVED_SETTINGS["ledgers-key"]


def reject_on_worker_lost_off() -> None:
    ReliableTask.reject_on_worker_lost = False


def mandatory_off() -> None:
    put_in_place(ReliableTask, "apply_async", Task.apply_async)


def _queue_with(**changes: object) -> None:
    whole = Topology.queue

    def changed(topology: Topology) -> Queue:
        queue = whole(topology)
        arguments = {**(queue.queue_arguments or {}), **changes}
        queue.queue_arguments = {name: it for name, it in arguments.items() if it is not None}
        return queue

    put_in_place(Topology, "queue", changed)


def reject_publish_off() -> None:
    _queue_with(**{"x-overflow": "drop-head", "x-dead-letter-strategy": None})


def delivery_limit_off() -> None:
    _queue_with(**{"x-delivery-limit": None})


def durable_off() -> None:
    def of_this_moment(topology: Topology) -> Queue:
        exchange = Exchange(topology.name, TYPE)
        return Queue(topology.name, exchange, routing_key=topology.name, durable=False)

    put_in_place(Topology, "queue", of_this_moment)


def ledger_on_the_network() -> None:
    """The file ``mounts`` in the home folder is the table of mounts."""
    file_systems.MOUNTS = Path(os.environ["BAOZI_HOME"], "mounts")


def slow_ledger() -> None:
    """Each statement takes a fifth of a second longer."""
    listen(Engine, "before_cursor_execute", lambda *_: time.sleep(0.2))


def poison_kills() -> None:
    _when_started(BAD, _kills)


def every_poison() -> None:
    """Baozi 1 to 5 are bad, each in a way of its own."""
    for number, bad in enumerate(POISONS, start=1):
        _when_started(number, bad)
    configuration.BETWEEN_LIMITS = 1  # seconds, for those that do not hear the soft limit


def each_raises() -> None:
    """Each baozi has an exception of its own."""
    for number, (make, _) in enumerate(RAISED.values()):
        _when_started(number, partial(_raise, make))


def _raise(make: Callable[[], BaseException]) -> None:
    raise make()


def _kills() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raises() -> None:
    raise ValueError("the filling is off")


def _never_ends() -> None:
    time.sleep(600)


def _never_ends_nor_listens() -> None:
    while True:
        with suppress(SoftTimeLimitExceeded):
            time.sleep(600)


def _uses_all_memory() -> None:
    bounds = resource.getrlimit(resource.RLIMIT_AS)
    in_use = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 50_000_000, bounds[1]))
    try:
        eaten = [bytes(10_000_000) for _ in range(100)]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, bounds)
    raise AssertionError(f"{len(eaten)} times 10 MB were there")


#: What is bad about baozi 1, 2, …; and the reason with which it ends in the dead letters.
POISONS: dict[Callable[[], None], str] = {
    _kills: "delivery_limit",
    _raises: "ValueError: the filling is off",
    _never_ends: "SoftTimeLimitExceeded",
    _never_ends_nor_listens: "delivery_limit",
    _uses_all_memory: "delivery_limit",
}


def _when_started(number: int, do: Callable[[], object]) -> None:
    """Do something when baozi ``number``, alone or on a tray, was noted as started."""
    write = WorkerJournal.write

    def write_and_do(journal: WorkerJournal, event: Event, *ids: str) -> None:
        write(journal, event, *ids)
        if event is Event.STARTED and any(it.endswith(f"/{number}") for it in ids):
            do()

    put_in_place(WorkerJournal, "write", write_and_do)


if __name__ == "__main__":
    changes, program = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    for change in changes:
        globals()[change]()
    sys.argv = program
    runpy.run_module(program[0], run_name="__main__", alter_sys=True)
