"""Python without what Windows and macOS lack, as far as Linux can show it.

Python loads this file at its start if its folder is on PYTHONPATH, and so does each process that it starts.
The modules of this repository then have no ``fcntl``, no ``/proc``, and few signals. Libraries keep all that
Linux has: they have code of their own for each system.
"""

import builtins
import os
import signal
import sys
from types import FrameType, ModuleType
from typing import Any

ROOT = str(os.path.realpath(__file__).partition("tests")[0])

MODULES = {"fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios", "tty"}
#: All but SIGINT, SIGTERM, SIGABRT and SIGBREAK, and the functions that Windows lacks.
SIGNALS = {
    name
    for name in vars(signal)
    if name.startswith("SIG") and name not in {"SIGINT", "SIGTERM", "SIGABRT", "SIG_DFL", "SIG_IGN"}
} | {"alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt", "sigwait"}
FUNCTIONS = {
    "chown",
    "fork",
    "geteuid",
    "getpgid",
    "getuid",
    "killpg",
    "register_at_fork",
    "sched_getaffinity",
    "set_blocking",
    "setsid",
    "uname",
    "wait4",
    "waitid",
}


def is_ours(frame: FrameType) -> bool:
    """Return whether the code that imports or uses something belongs to this repository."""
    file = frame.f_code.co_filename
    return file.startswith(ROOT) and "site-packages" not in file


def refuse_modules(name: str, *arguments: Any, **named: Any) -> ModuleType:
    if name in MODULES and is_ours(sys._getframe(1)):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return load(name, *arguments, **named)


def hide(module: ModuleType, names: set[str]) -> None:
    """Take the ``names`` from ``module``, except from the libraries that ask for them."""
    hidden = {name: vars(module).pop(name) for name in names & vars(module).keys()}

    def find(name: str) -> Any:
        if name in hidden and not is_ours(sys._getframe(1)):
            return hidden[name]
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    vars(module)["__getattr__"] = find


def refuse_proc(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).startswith("/proc/"):
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not is_ours(frame):
            if "psutil" in frame.f_code.co_filename:
                return
            frame = frame.f_back
        if frame is not None:
            raise FileNotFoundError(2, "No such file or directory", arguments[0])


load = builtins.__import__
builtins.__import__ = refuse_modules
hide(signal, SIGNALS)
hide(os, FUNCTIONS)
sys.addaudithook(refuse_proc)
