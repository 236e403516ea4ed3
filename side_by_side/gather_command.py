"""The command ``baozi gather``."""

from pathlib import Path
from typing import Annotated

import typer

from baozi.errors import ExitCode
from baozi.language import translated
from baozi.quantities import count
from baozi.shown import shown, shown_json
from baozi.tables import Column, Table
from baozi.workload import checked_workload
from side_by_side.comparison_results import ComparisonResults
from side_by_side.comparison_table import remarks
from side_by_side.gather import gather as count_all
from side_by_side.results_folder import ResultsFolder
from side_by_side.summary import shares


def gather(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of the journals, as TRANSPORT/MACHINE/…/NAME.journal."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write results.json and report.html to this folder.")
    ] = None,
    per_producer: Annotated[int, typer.Option(min=1, help="Baozi that each producer made.")] = 10,
    pace: Annotated[float, typer.Option(min=0.001, max=100, help="Factor on the course's seconds.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Show which consumer ate how many baozi on which machine, from the machines' journals."""
    results = count_all(folder, checked_workload(per_producer=per_producer).paced(pace))
    if out is not None:
        results_folder = ResultsFolder(out)
        results_folder.write_results(results)
        results_folder.write_report(results)
    if as_json:
        print(shown_json(results.model_dump_json()))
    else:
        _print(results)
    if any(not run.as_expected for run in results.runs):
        raise typer.Exit(ExitCode.LOSS)


def _print(results: ComparisonResults) -> None:
    table = Table(
        translated("who ate what"),
        translated("machine"),
        Column(translated("eaten"), right=True),
        translated("verdict"),
    )
    verdicts = {run.transport: translated(run.verdict) for run in results.runs}
    for transport, its in shares(results).items():
        for share in its:
            table.add_row(f"{transport}: {share.consumer}", share.machine, count(share.eaten), "")
        total = count(sum(share.eaten for share in its))
        table.add_row(transport, translated("all"), total, verdicts[transport])
    table.print()
    for remark in remarks(results):
        print(shown(translated(remark)))
