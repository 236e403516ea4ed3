"""Queues and processes for the tests of remote_mp."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.connection import connect
from baozi.amqp.frames import Frames
from baozi.errors import BrokerAway, MessageRefused
from remote_mp import JoinableQueue
from tests.integration.place import Place

spawn = multiprocessing.get_context("spawn")


def making(place: Place) -> Iterator[Callable[..., Any]]:
    """Yield a function that makes queues, and close them at the end."""
    made = []

    def make(maxsize: int = 0, cls: Any = JoinableQueue, name: str = "q", **options: Any) -> Any:
        made.append(cls(maxsize, **{"name": name, "url": place.url, **options}))
        return made[-1]

    yield make
    for one in made:
        one.cancel_join_thread()
        one.close()
        one.join_thread()


@contextmanager
def running(do: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    """Run ``do`` in a new process, and kill the process at the end."""
    process = spawn.Process(target=do, args=arguments, daemon=True)
    process.start()
    yield process
    process.kill()
    process.join()


@contextmanager
def send_raw(url: str) -> Iterator[Callable[..., bool]]:
    """Yield a function that publishes a message with any bytes as its properties.

    It takes the routing key, the properties (flags first), the body and the exchange. It returns whether the
    broker confirmed the message.
    """
    channels: list[ConfirmedChannel] = []

    def send(routing_key: Any, properties: bytes, body: bytes, exchange: str = "") -> bool:
        if not channels:
            channels.append(ConfirmedChannel(connect("a test", url=url)))
        [channel] = channels
        frames = Frames(channel.number, channel.frame_max, exchange, routing_key).of(properties, body)
        try:
            channel.publish(lambda _: channel.write(frames), time.monotonic() + 30)
        except (BrokerAway, MessageRefused):
            channels.pop().abort()
            return False
        return True

    yield send
    for channel in channels:
        channel.close()


def cut_all(place: Place) -> None:
    """Make the broker close each connection to this virtual host."""
    place.node.close_connections(place.virtual_host)


def take_and_hold(q: Any, taken: Any) -> None:
    taken.put(q.get())
    time.sleep(3600)


def eat(q: Any, eaten: Any) -> None:
    while True:
        item = q.get()
        eaten.put(item)
        q.task_done()


def release(allowed: Any, times: int) -> None:
    """Release a semaphore ``times`` times: ``release`` of multiprocessing takes no number."""
    for _ in range(times):
        allowed.release()


def eat_slowly(q: Any, eaten: Any, allowed: Any) -> None:
    """Eat one item for each release of the semaphore."""
    while True:
        item = q.get()
        allowed.acquire()
        time.sleep(0.02)
        eaten.put(item)
        q.task_done()


def put_all(q: Any, items: list[str]) -> None:
    for item in items:
        q.put(item)


def put_and_join(q: Any, items: list[int], joined: Any) -> None:
    for item in items:
        q.put(item)
    q.join(60)
    joined.put(len(items))


def run_program(program: str, place: Place, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a new process, with the place's environment. ``timeout`` is in seconds."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **place.environment()},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
