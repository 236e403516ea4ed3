"""The folder that ``compare --out`` and ``gather --out`` write: ``results.json`` and ``report.html``."""

from importlib.util import find_spec
from pathlib import Path

from baozi.errors import ReportNotInstalled, UsageError
from side_by_side.comparison_results import ComparisonResults

#: The libraries of the extra `report` in pyproject.toml. The image of a service does not have them.
_LIBRARIES = ("jinja2", "matplotlib")


class ResultsFolder:
    """A folder for results. Each of its files is complete at any moment."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if it is missing, and check that it can be written, before hours of work.

        Raises:
            UsageError: it cannot be written; the message says why.
            ReportNotInstalled: the libraries of the report are not installed.
        """
        need_libraries()
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._draft.touch()
            self._draft.unlink()
        except OSError as error:
            raise UsageError(
                "The folder {folder} cannot be written: {strerror}.", folder=folder, strerror=error.strerror
            ) from None

    @property
    def _draft(self) -> Path:
        return self._folder / "results.json.new"

    def write_results(self, results: ComparisonResults) -> None:
        """Write ``results.json``, completely or not at all.

        Raises:
            UsageError: it cannot be written, for example because the disk is full.
        """
        try:
            self._draft.write_text(results.model_dump_json(indent=1))
            self._draft.replace(self._folder / "results.json")
        except OSError as error:
            raise UsageError(
                "The folder {folder} cannot be written: {strerror}.",
                folder=self._folder,
                strerror=error.strerror,
            ) from None

    def write_report(self, results: ComparisonResults) -> None:
        """Write ``report.html``.

        Raises:
            UsageError: it cannot be written.
        """
        write_report(results, self._folder / "report.html")


def need_libraries() -> None:
    """Check that a report can be made here, without importing anything.

    Raises:
        ReportNotInstalled: the libraries of the report are not installed.
    """
    if not all(map(find_spec, _LIBRARIES)):
        raise ReportNotInstalled


def write_report(results: ComparisonResults, path: Path) -> None:
    """Write the report of ``results`` to ``path``, completely or not at all. Needs the report's libraries.

    Raises:
        UsageError: it cannot be written there.
    """
    from side_by_side import report  # noqa: PLC0415  # takes half a second, which no other command should take

    report.write_report(results, path)
