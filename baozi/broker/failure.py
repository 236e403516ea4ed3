"""Why a broker did not start, in one line, out of the pages that its logs say."""

from pathlib import Path


def reason(logs: list[Path]) -> str:
    """The first line of ``logs`` that names the fault, else the last line of all."""
    return reason_in("\n".join(_text(log) for log in logs))


def reason_in(text: str) -> str:
    """As :func:`reason`, of a log's text."""
    return text.strip().splitlines()[-1] if text.strip() else "it said nothing"


def _text(log: Path) -> str:
    try:
        return log.read_text(errors="replace")
    except OSError:
        return ""
