"""Where a comparison's results are kept: a folder, in which every file is whole at any moment."""

from pathlib import Path

from baozi.errors import UsageError
from side_by_side.report_on_demand import need_libraries, write_report
from side_by_side.results import Results


class Keeper:
    """Keeps results in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if need be, and see that all can be kept there: now, and not after hours of work.

        Raises:
            UsageError: it cannot be written; says why.
            ReportNotInstalled: the report's libraries are not there.
        """
        need_libraries()
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._draft.touch()
            self._draft.unlink()
        except OSError as error:
            raise UsageError(f"The folder {folder} cannot be written: {error.strerror}.") from None

    @property
    def _draft(self) -> Path:
        return self._folder / "results.json.new"

    def keep(self, results: Results) -> None:
        """Write ``results.json``, whole or not at all.

        Raises:
            UsageError: the disk is full, say.
        """
        try:
            self._draft.write_text(results.model_dump_json(indent=1))
            self._draft.replace(self._folder / "results.json")
        except OSError as error:
            raise UsageError(f"The folder {self._folder} cannot be written: {error.strerror}.") from None

    def report(self, results: Results) -> None:
        """Write ``report.html``."""
        write_report(results, self._folder / "report.html")
