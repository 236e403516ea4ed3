"""Faults of processes: workers and producers that are killed, frozen or stopped; whoever is killed is started
again at once, as a service manager would.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from random import Random

import psutil

from side_by_side.faults.strike import Strike, Struck, Victim
from side_by_side.kitchen import Kitchen, choose

#: Seconds: for a broker to miss a frozen worker; for orphans to end; for a stopped worker beyond its own
#: deadline; for who was frozen or started again to eat again.
_MISSED, _ORPHANS, _STOPPED, _BACK = 30, 20, 15, 60
#: Baozi of a burst, of which a producer is killed after a part.
_BURST = 2000
#: Baozi that a producer may have put and not yet written down as accepted: its window (baozi/settings.py).
_WINDOW = 1000


def _kill(processes: Iterable[psutil.Process]) -> None:
    _signal(processes, signal.SIGKILL)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            os.kill(process.pid, number)


def kill_pool_child(kitchen: Kitchen, chance: Random) -> Struck:
    """``kill -9`` one pool process; its worker replaces it."""
    worker = choose(chance, kitchen.ready_workers())
    kitchen.mark()
    _kill([choose(chance, worker.process.children())])
    return Struck(f"a pool process of {worker.name}", kitchen.menu.tray)


def kill_worker(kitchen: Kitchen, chance: Random) -> Struck:
    """``kill -9`` a worker and all its pool processes."""
    worker = choose(chance, kitchen.workers())
    tree = [worker.process, *worker.process.children(recursive=True)]
    kitchen.mark()
    _kill(tree)
    worker.process.wait()
    kitchen.start_worker(worker.name)
    return Struck(worker.name, kitchen.menu.held)


def orphan_pool(kitchen: Kitchen, chance: Random) -> Struck:
    """``kill -9`` a worker's main process; its pool processes, frozen meanwhile, finish late, then end."""
    worker = choose(chance, kitchen.ready_workers())
    children = worker.process.children(recursive=True)
    _signal(children, signal.SIGSTOP)
    try:
        kitchen.mark()
        _kill([worker.process])
        worker.process.wait()
        kitchen.start_worker(worker.name)
        # In vain where an orphan was frozen with SQLite's lock in hand: then all wait for it.
        kitchen.let_eat(kitchen.menu.held + 1, chance.uniform(1, 3))
    finally:
        _signal(children, signal.SIGCONT)
    kitchen.wait(lambda: not any(map(psutil.Process.is_running, children)), "the orphans to end", _ORPHANS)
    return Struck(f"the main process of {worker.name}", 2 * kitchen.menu.held)


def freeze_worker(kitchen: Kitchen, chance: Random) -> Struck:
    """SIGSTOP a worker, pool and all, until the broker misses its heartbeat; SIGCONT; see it eat again."""
    worker = choose(chance, kitchen.ready_workers())
    tree = [worker.process, *worker.process.children(recursive=True)]
    kitchen.wait(lambda: kitchen.consumers() >= len(kitchen.workers()), "all workers to consume", _BACK)
    before = kitchen.consumers()
    kitchen.mark()
    _signal(tree, signal.SIGSTOP)
    try:
        kitchen.wait(lambda: kitchen.consumers() < before, "the broker to miss the frozen worker", _MISSED)
    finally:
        _signal(tree, signal.SIGCONT)
    kitchen.wait_for_eating_of(worker.name, _BACK)
    return Struck(worker.name, 2 * kitchen.menu.held)


def stop_worker(kitchen: Kitchen, chance: Random) -> Struck:
    """SIGTERM a worker in mid-work: it ends by itself, by its deadline, and nothing comes twice."""
    worker = choose(chance, kitchen.ready_workers())
    kitchen.mark()
    worker.process.terminate()
    limit = kitchen.menu.soft_shutdown_seconds + _STOPPED
    kitchen.wait(lambda: worker.process.poll() == 0, f"{worker.name} to end well", limit)
    kitchen.start_worker(worker.name)
    return Struck(worker.name)


def kill_producer_in_a_burst(kitchen: Kitchen, chance: Random) -> Struck:
    """``kill -9`` a producer that puts as fast as it can, then have it go on with ``--resume``."""
    name = kitchen.new_name("burst")
    first = kitchen.start_producer(name, _BURST)
    at_least = int(chance.uniform(0.02, 0.8) * _BURST)
    done = f"{name} to have put {at_least}, or all"
    kitchen.wait(
        lambda: kitchen.books.accepted(name) >= at_least or first.process.poll() is not None, done, _BACK
    )
    kitchen.mark()
    _kill([first.process])
    first.process.wait()
    second = kitchen.start_producer(name, _BURST, resume=True)
    kitchen.wait(lambda: second.process.poll() == 0, f"{name} to put the rest", _BACK)
    return Struck(name, _WINDOW)


def kill_producer(kitchen: Kitchen, chance: Random) -> Struck:
    """``kill -9`` one of those who put all the while, then have it go on with ``--resume``."""
    producer = choose(chance, kitchen.producers())
    kitchen.mark()
    _kill([producer.process])
    producer.process.wait()
    before = kitchen.books.accepted(producer.name)
    kitchen.start_producer(producer.name, resume=True)
    kitchen.wait(lambda: kitchen.books.accepted(producer.name) > before, f"{producer.name} to go on", _BACK)
    return Struck(producer.name, 1)


STRIKES = (
    Strike(
        "kill-pool-child",
        "0 lost, none counted twice; no more deliveries than accepted, and a tray for each kill",
        kill_pool_child,
        Victim.WORKER,
        often=10,
    ),
    Strike(
        "kill-worker",
        "0 lost, none counted twice; no more deliveries than accepted, and what it held for each kill",
        kill_worker,
        Victim.WORKER,
        often=4,
    ),
    Strike(
        "orphan-pool",
        "the same; an orphan that finishes late changes nothing, and ends",
        orphan_pool,
        Victim.WORKER,
        often=2,
    ),
    Strike(
        "stop-worker",
        "0 lost, nothing that it finished is delivered again; it is out by its deadline",
        stop_worker,
    ),
    Strike(
        "freeze-worker",
        "0 lost; its late acknowledgement harms nothing; it eats again without a restart",
        freeze_worker,
    ),
    Strike(
        "kill-producer-in-a-burst",
        "what was accepted is eaten; no number twice, none missing",
        kill_producer_in_a_burst,
        Victim.PRODUCER,
    ),
    Strike(
        "kill-putting-producer",
        "what was accepted is eaten; no number twice, none missing",
        kill_producer,
        Victim.PRODUCER,
    ),
)
