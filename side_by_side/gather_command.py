"""``baozi gather``."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console

from baozi.errors import ExitCode
from baozi.shown import shown, shown_json
from baozi.tables import Table
from baozi.workload import checked_workload
from side_by_side.keeping import Keeper
from side_by_side.machines import gather as sum_up
from side_by_side.report_rows import shares
from side_by_side.results import Results
from side_by_side.table import remarks


def gather(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="TRANSPORT/MACHINE/…/NAME.journal.")],
    out: Annotated[Path | None, typer.Option(help="Folder of results.json and report.html.")] = None,
    per_producer: Annotated[int, typer.Option(min=1, help="Baozi that each producer made.")] = 10,
    pace: Annotated[float, typer.Option(min=0.001, max=100, help="Factor on the course's seconds.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Say who ate what on which machine, from the journals that each machine kept."""
    results = sum_up(folder, checked_workload(per_producer=per_producer).paced(pace))
    if out is not None:
        keeper = Keeper(out)
        keeper.keep(results)
        keeper.report(results)
    if as_json:
        print(shown_json(results.model_dump_json()))
    else:
        _print(results)
    if any(not run.as_expected for run in results.runs):
        raise typer.Exit(ExitCode.LOSS)


def _print(results: Results) -> None:
    table = Table("who ate what", "on", "eaten", "verdict", box=box.SIMPLE_HEAD)
    verdicts = {run.transport: str(run.verdict) for run in results.runs}
    for transport, its in shares(results).items():
        for share in its:
            table.add_row(f"{transport}: {share.consumer}", share.machine, str(share.eaten), "")
        table.add_row(transport, "all", str(sum(share.eaten for share in its)), verdicts[transport])
    Console().print(table)
    for remark in remarks(results):
        print(shown(remark))
