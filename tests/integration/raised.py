"""Exceptions that a task may raise, of which pickle makes others or none."""

import os
from collections.abc import Callable
from email.message import Message
from typing import Any
from urllib.error import HTTPError

#: Text that moves the cursor, changes a title, forges a line, or is shown backwards.
CONTROLS = "\x1b]0;title\x07\x1b[2J\n2026-01-01 forged\r\x9b31m\u202eevil\u2066\u200b\x7f\u2028\udc80"


class NotPickled(Exception):
    """What pickle cannot make again: it takes an argument more than it keeps."""

    def __init__(self, one: str, other: object) -> None:
        super().__init__(f"{one}, and a lock", other)
        self.lock = other

    def __str__(self) -> str:
        return "a lock's own text"


class Changed(ValueError):
    """What pickle makes again with another text."""

    def __init__(self, text: str = "made again") -> None:
        super().__init__()
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> Any:
        return Changed, ()


class Silent(Exception):
    """Its text is a bug itself."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Huge(Exception):
    """Its text is larger than any header."""

    def __str__(self) -> str:
        return "x" * 1_000_000


def _local() -> Exception:
    class Local(Exception):
        """Nobody can import it."""

    return Local("of a function")


#: What a task raises, and the reason in the dead letters.
RAISED: dict[str, tuple[Callable[[], BaseException], str]] = {
    "http": (
        lambda: HTTPError("http://example.org", 404, "Not Found", Message(), None),
        "HTTPError: HTTP Error 404: Not Found",
    ),
    "open file": (
        lambda: OSError(2, "No such file", "/a"),
        "FileNotFoundError: [Errno 2] No such file: '/a'",
    ),
    # A file that stays open: it is what cannot be pickled.
    "unpickled": (
        lambda: NotPickled("one", open(os.devnull)),  # noqa: SIM115, PTH123  # it is not read
        "NotPickled: a lock's own text",
    ),
    "changed": (lambda: Changed("as raised"), "Changed: as raised"),
    "local": (_local, "Local: of a function"),
    "silent": (Silent, "Silent: (its text raised RuntimeError)"),
    "huge": (Huge, "Huge: " + "x" * 900),
    "group": (lambda: ExceptionGroup("two", [ValueError("one"), Changed()]), "ExceptionGroup: two (2 sub-"),
    "key": (lambda: KeyError("run"), "KeyError: 'run'"),
    "empty": (AssertionError, "AssertionError: "),
    "controls": (lambda: ValueError(CONTROLS), "ValueError: \x1b]0;title"),
}
