"""Finds in a broker's logs the reason why it did not start."""

import re
from pathlib import Path

#: What RabbitMQ 3.8 and later write before each line of a message. Lines without it are copies for a
#: terminal.
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d \S+ \[(?P<level>\w+)\] <[\d.]+> ?")
#: Lines before an error that do not describe it.
_HEADINGS = {"", "BOOT FAILED", "==========="}
#: The most characters of a reason; Erlang may write pages.
_LONGEST = 300
#: Erlang's error texts when a port is in use: the AMQP or management port, or the distribution port.
_TAKEN = re.compile(r"eaddrinuse|could not bind to distribution port", re.IGNORECASE)


def read_logs(*logs: Path) -> str:
    """Return the texts of ``logs``, one after the other, without missing files."""
    return "\n".join(log.read_text(errors="replace") for log in logs if log.is_file())


def reason(log: str, finished: bool = True) -> str:
    """Return the first error of ``log``, up to the next blank line.

    Args:
        log: its text.
        finished: whether the broker has ended. If so, and no line is marked as an error, the last line is the
            reason. If not, the last line is only what the broker did last.
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
    """Return whether the reason is that another process uses a port of the broker."""
    return _TAKEN.search(log) is not None


def _is_error(line: str) -> bool:
    prefix = _PREFIX.match(line)
    return prefix["level"] in {"error", "critical"} if prefix else line.lower().startswith("error")


def _paragraph(lines: list[str]) -> str:
    """Return the first line if it is a sentence; else also the lines after it."""
    if lines[0].endswith("."):
        return lines[0][:-1]
    end = lines.index("") if "" in lines else len(lines)
    text = " ".join(" ".join(lines[: min(end, 8)]).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
