"""Runs a lesson as a command: with a deadline, and so that no process outlives it.

The lessons start plain processes, as the course does. A command must also end cleanly on Ctrl-C, on SIGTERM
and when it is killed.
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

from baozi.errors import BaoziError, ExitCode


class DeadlinePassed(BaoziError):
    """The work did not end by its deadline: something waits for what will never come."""

    exit_code = ExitCode.LOSS


class GuardedProcess(Process):
    """A process that leaves Ctrl-C to its parent, ends with it, and writes whole lines."""

    def run(self) -> None:
        """Do what the lesson asked for."""
        leave_signals_to_parent()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Several processes write to one output: each writes whole lines, under PYTHONUNBUFFERED too.
            sys.stdout.reconfigure(line_buffering=True, write_through=False)
        super().run()


def leave_signals_to_parent() -> None:
    """Have this child process ignore Ctrl-C, and end when its parent has ended, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(ExitCode.INTERRUPTED)


@contextmanager
def guarded(modules: Iterable[ModuleType], deadline: float) -> Iterator[None]:
    """Have the lessons in ``modules`` start guarded processes, and kill those that still run at the end.

    Args:
        modules: lessons that import ``Process``.
        deadline: seconds after which the work is given up.

    Raises:
        DeadlinePassed: it was.
    """
    passed, main = threading.Event(), threading.get_ident()

    def give_up() -> None:
        passed.set()
        # To the main thread, which may wait in a system call for a process to end.
        signal.pthread_kill(main, signal.SIGINT)

    timer = threading.Timer(deadline, give_up)
    timer.daemon = True
    plain = {module: vars(module)["Process"] for module in modules if "Process" in vars(module)}
    try:
        for module in plain:
            vars(module)["Process"] = GuardedProcess
        timer.start()
        yield
    except KeyboardInterrupt:
        if passed.is_set():
            raise DeadlinePassed(f"Not done within {deadline:g} s.") from None
        raise
    finally:
        timer.cancel()
        for module, process in plain.items():
            vars(module)["Process"] = process
        children = multiprocessing.active_children()
        # First none runs any more: one that outlived a Manager for a moment would tell of it in a traceback.
        for blow in (signal.SIGSTOP, signal.SIGKILL):
            for child in children:
                if child.exitcode is None:
                    os.kill(child.pid or 0, blow)
        for child in children:
            child.join()
