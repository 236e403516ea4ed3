"""The report's libraries: loaded when a report is made, and no part of a service's image."""

from importlib.util import find_spec
from pathlib import Path

from baozi.errors import ReportNotInstalled
from side_by_side.results import Results

#: What pyproject.toml's extra `report` installs.
_LIBRARIES = ("jinja2", "matplotlib")


def need_libraries() -> None:
    """See that a report can be made here, before any work for it; nothing is loaded.

    Raises:
        ReportNotInstalled: its libraries are not there.
    """
    if not all(map(find_spec, _LIBRARIES)):
        raise ReportNotInstalled


def write_report(results: Results, path: Path) -> None:
    """Write the report of ``results`` to ``path``, all of it or nothing; its libraries are there.

    Raises:
        UsageError: it cannot be written there.
    """
    from side_by_side import report  # noqa: PLC0415  # half a second, which no other command should pay

    report.write_report(results, path)
