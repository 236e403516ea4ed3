"""The command ``baozi report``."""

from pathlib import Path
from typing import Annotated

import typer

from baozi.shown import shown, to_json
from side_by_side.comparison_results import read_results
from side_by_side.results_folder import need_libraries, write_report


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `baozi compare` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make report.html from the results.json in DIR, and print its path."""
    need_libraries()
    results = read_results(folder / "results.json")
    path = folder / "report.html"
    write_report(results, path)
    if as_json:
        said = {"report": str(path), "runs": len(results.runs), "finished": results.finished}
        print(to_json(said))
    else:
        print(shown(path))
