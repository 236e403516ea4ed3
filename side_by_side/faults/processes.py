"""Faults of workers and producers: they are killed, frozen or stopped. A killed process is started again at
once, as a service manager would start it.
"""

import signal
from random import Random

import psutil

from baozi.faults.signals import kill, send
from baozi.language import Sentence
from side_by_side.chaos_environment import ChaosEnvironment, choose
from side_by_side.faults.fault import Effect, Fault, Killed

#: Seconds: for the broker to miss a frozen worker's heartbeat; for orphans to end; for a stopped worker to
#: end after its own deadline; for a worker or producer to work again.
_MISSED, _ORPHANS, _STOPPED, _BACK = 30, 20, 15, 60
#: Baozi of a burst. The producer is killed after a part of it.
_BURST = 2000
#: Baozi that a producer may have put without having written down that they are accepted: its window
#: (baozi/settings.py).
_WINDOW = 1000


def kill_pool_child(environment: ChaosEnvironment, chance: Random) -> Effect:
    """``kill -9`` one pool process; its worker replaces it."""
    worker = choose(chance, environment.ready_workers())
    environment.start_recovery_clock()
    kill([choose(chance, worker.process.children())])
    return Effect(Sentence("a pool process of {worker}", worker=worker.name), environment.configuration.tray)


def kill_worker(environment: ChaosEnvironment, chance: Random) -> Effect:
    """``kill -9`` a worker and all its pool processes."""
    worker = choose(chance, environment.workers())
    tree = [worker.process, *worker.process.children(recursive=True)]
    environment.start_recovery_clock()
    kill(tree)
    worker.process.wait()
    environment.start_worker(worker.name)
    return Effect(worker.name, environment.configuration.most_unacknowledged)


def orphan_pool(environment: ChaosEnvironment, chance: Random) -> Effect:
    """``kill -9`` a worker's main process. Its pool processes, frozen meanwhile, finish late and then end."""
    worker = choose(chance, environment.ready_workers())
    children = worker.process.children(recursive=True)
    send(children, signal.SIGSTOP)
    try:
        environment.start_recovery_clock()
        kill([worker.process])
        worker.process.wait()
        environment.start_worker(worker.name)
        # Nothing is eaten if an orphan was frozen while it held SQLite's lock: then all others wait for it.
        environment.wait_for_more_eaten(
            environment.configuration.most_unacknowledged + 1, chance.uniform(1, 3)
        )
    finally:
        send(children, signal.SIGCONT)
    environment.wait_until(
        lambda: not any(map(psutil.Process.is_running, children)), "the orphans to end", _ORPHANS
    )
    return Effect(
        Sentence("the main process of {worker}", worker=worker.name),
        2 * environment.configuration.most_unacknowledged,
    )


def freeze_worker(environment: ChaosEnvironment, chance: Random) -> Effect:
    """SIGSTOP a worker and its pool until the broker misses its heartbeat; then SIGCONT them."""
    worker = choose(chance, environment.ready_workers())
    tree = [worker.process, *worker.process.children(recursive=True)]
    environment.wait_until(
        lambda: environment.consumer_count() >= len(environment.workers()), "all workers to consume", _BACK
    )
    before = environment.consumer_count()
    environment.start_recovery_clock()
    send(tree, signal.SIGSTOP)
    try:
        environment.wait_until(
            lambda: environment.consumer_count() < before, "the broker to miss the frozen worker", _MISSED
        )
    finally:
        send(tree, signal.SIGCONT)
    environment.wait_until_eats(worker.name, _BACK)
    return Effect(worker.name, 2 * environment.configuration.most_unacknowledged)


def stop_worker(environment: ChaosEnvironment, chance: Random) -> Effect:
    """SIGTERM a worker while it works: it ends by itself before its deadline, and nothing is eaten twice."""
    worker = choose(chance, environment.ready_workers())
    environment.start_recovery_clock()
    worker.process.terminate()
    limit = environment.configuration.soft_shutdown_seconds + _STOPPED
    environment.wait_until(
        lambda: worker.process.poll() == 0, f"{worker.name} to end without an error", limit
    )
    environment.start_worker(worker.name)
    return Effect(worker.name)


def kill_producer_in_a_burst(environment: ChaosEnvironment, chance: Random) -> Effect:
    """``kill -9`` a producer that puts as fast as it can, then start it again with ``--resume``."""
    name = environment.new_name("burst")
    first = environment.start_producer(name, _BURST)
    at_least = int(chance.uniform(0.02, 0.8) * _BURST)
    environment.wait_until(
        lambda: environment.records.accepted(name) >= at_least or first.process.poll() is not None,
        f"{name} to have put {at_least}, or all",
        _BACK,
    )
    environment.start_recovery_clock()
    kill([first.process])
    first.process.wait()
    second = environment.start_producer(name, _BURST, resume=True)
    environment.wait_until(lambda: second.process.poll() == 0, f"{name} to put the rest", _BACK)
    return Effect(name, _WINDOW)


def kill_putting_producer(environment: ChaosEnvironment, chance: Random) -> Effect:
    """``kill -9`` one of the producers that put all the time, then start it again with ``--resume``."""
    producer = choose(chance, environment.producers())
    environment.start_recovery_clock()
    kill([producer.process])
    producer.process.wait()
    before = environment.records.accepted(producer.name)
    environment.start_producer(producer.name, resume=True)
    environment.wait_until(
        lambda: environment.records.accepted(producer.name) > before, f"{producer.name} to go on", _BACK
    )
    return Effect(producer.name, 1)


FAULTS = (
    Fault(
        "kill-pool-child",
        "Kills one pool process of a worker.",
        "0 lost, none counted twice; for each kill, at most a tray of baozi is redelivered",
        kill_pool_child,
        kills=Killed.WORKER,
        weight=10,
    ),
    Fault(
        "kill-worker",
        "Kills a worker and all its pool processes, and starts it again.",
        "0 lost, none counted twice; for each kill, at most its unacknowledged baozi are redelivered",
        kill_worker,
        kills=Killed.WORKER,
        weight=4,
    ),
    Fault(
        "orphan-pool",
        "Kills a worker's main process. Its pool processes finish their work later.",
        "the same; a pool process that finishes late changes nothing, and ends",
        orphan_pool,
        kills=Killed.WORKER,
        weight=2,
    ),
    Fault(
        "stop-worker",
        "Sends SIGTERM to a worker, and starts it again.",
        "0 lost; nothing that it has finished is redelivered; it ends by its deadline",
        stop_worker,
    ),
    Fault(
        "freeze-worker",
        "Freezes a worker until the broker misses its heartbeat.",
        "0 lost; its late acknowledgement does no harm; it eats again without a restart",
        freeze_worker,
    ),
    Fault(
        "kill-producer-in-a-burst",
        "Kills a producer that puts as fast as it can, and starts it again with --resume.",
        "all that was accepted is eaten; no number twice, none missing",
        kill_producer_in_a_burst,
        kills=Killed.PRODUCER,
    ),
    Fault(
        "kill-putting-producer",
        "Kills a producer that puts at a steady rate, and starts it again with --resume.",
        "all that was accepted is eaten; no number twice, none missing",
        kill_putting_producer,
        kills=Killed.PRODUCER,
    ),
)
