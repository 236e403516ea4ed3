"""Runs a lesson as a command: with a deadline, and so that no process outlives it.

The lessons start plain processes, as the course does. A command must also end cleanly on Ctrl-C, on SIGTERM
and when it is killed. Windows has neither SIGKILL nor ``pthread_kill``, so neither is needed here.
"""

import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import Process
from types import ModuleType

#: Exit code of a process that ended because its parent ended.
_INTERRUPTED = 130


class GuardedProcess(Process):
    """A process that ends quietly on Ctrl-C, ends with its parent, and writes whole lines."""

    def run(self) -> None:
        """Run the function that the lesson named."""
        end_with_parent()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Several processes write to one output: each writes whole lines, under PYTHONUNBUFFERED too.
            sys.stdout.reconfigure(line_buffering=True, write_through=False, errors="backslashreplace")
        super().run()


def end_with_parent() -> None:
    """Have this child process end without a traceback on Ctrl-C, and when its parent has ended."""
    # Not ignored: on Windows, the parent notices Ctrl-C only when the child that it joins has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(_INTERRUPTED)


@contextmanager
def guarded(modules: Iterable[ModuleType], deadline: float) -> Iterator[None]:
    """Have the lessons in ``modules`` start guarded processes, and kill those that still run at the end.

    Args:
        modules: lessons that import ``Process``.
        deadline: seconds after which the lesson is ended. Only the main thread may run it.

    Raises:
        TimeoutError: the lesson did not end by the deadline.
    """
    passed = threading.Event()

    def give_up() -> None:
        passed.set()
        _interrupt_main_thread()
        _kill_children()

    timer = threading.Timer(deadline, give_up)
    timer.daemon = True
    plain = {module: vars(module)["Process"] for module in modules if "Process" in vars(module)}
    for module in plain:
        vars(module)["Process"] = GuardedProcess
    timer.start()
    try:
        yield
    except BaseException:
        if passed.is_set():
            raise TimeoutError(f"Not done within {deadline:g} s.") from None
        raise
    finally:
        timer.cancel()
        timer.join()  # only one thread at a time may wait for the children
        for module, process in plain.items():
            vars(module)["Process"] = process
        _kill_children()


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        # The thread may wait in a system call: only a signal to itself ends that.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def _kill_children() -> None:
    """Kill this process's children and wait for them."""
    children = multiprocessing.active_children()
    # A daemon may serve the others, as the Manager does. If it ended first, they would print errors.
    for daemon in (False, True):
        chosen = [child for child in children if child.daemon is daemon]
        for child in chosen:
            child.kill()
        for child in chosen:
            child.join()
