"""Why a broker did not start, in one sentence's space, out of the pages that its logs say."""

import re
from pathlib import Path

#: What RabbitMQ 3.8 and later write before each line of a message; bare lines are copies for a terminal.
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d \S+ \[(?P<level>\w+)\] <[\d.]+> ?")
#: Lines that head a fault without naming it.
_HEADINGS = {"", "BOOT FAILED", "==========="}
#: A fault is told in so many characters; Erlang can go on for pages.
_LONGEST = 300
#: How an Erlang node says it of AMQP's and the management's port, and of the distribution's.
_TAKEN = re.compile(r"eaddrinuse|could not bind to distribution port", re.IGNORECASE)


def read_logs(*logs: Path) -> str:
    """The text of ``logs``, one after the other; what cannot be read is left out."""
    return "\n".join(log.read_text(errors="replace") for log in logs if log.is_file())


def reason(log: str, finished: bool = True) -> str:
    """Return the first error of ``log``, up to the next blank line.

    Args:
        log: its text.
        finished: whether the broker has ended. Then the last line is the reason if no line is marked as an
            error. Otherwise it is what the broker did last, and no reason.
    """
    lines = [_PREFIX.sub("", line).strip() for line in log.splitlines()]
    for at, line in enumerate(log.splitlines()):
        if _is_error(line) and lines[at] not in _HEADINGS:
            return _paragraph(lines[at:])
    last = next((line[:_LONGEST] for line in reversed(lines) if line), None)
    if last is None:
        return "it said nothing"
    return last if finished else f"it told no error; the last it said was {last!r}"


def port_taken(log: str) -> bool:
    """Whether it was since another process has a port of the broker's."""
    return _TAKEN.search(log) is not None


def _is_error(line: str) -> bool:
    prefix = _PREFIX.match(line)
    return prefix["level"] in {"error", "critical"} if prefix else line.lower().startswith("error")


def _paragraph(lines: list[str]) -> str:
    """The first line if it is a sentence; else what follows belongs to it."""
    if lines[0].endswith("."):
        return lines[0][:-1]
    end = lines.index("") if "" in lines else len(lines)
    text = " ".join(" ".join(lines[: min(end, 8)]).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
