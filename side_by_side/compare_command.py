"""The command ``baozi compare``."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from baozi.broker.temporary import can_run
from baozi.errors import ExitCode, UsageError
from baozi.lines import best_effort
from baozi.shown import shown, shown_json
from baozi.workload import Workload, checked_workload
from side_by_side.comparison import ComparisonPlan, PlannedRun
from side_by_side.comparison import compare as run_all
from side_by_side.comparison_results import ComparisonResults, RunKind
from side_by_side.comparison_table import legend, remarks, speed_table, verdict_table
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.results_folder import ResultsFolder
from side_by_side.transports import TRANSPORTS, Transport

#: The course's names; further names have numbers.
_PRODUCERS, _CONSUMERS = ("alex", "peiqi", "egon"), ("小明", "小红")
#: Columns of the tables if the output is not a terminal.
_WIDTH = 100
#: How many times a flat-out run is done, by default.
_REPEAT = 3


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TRANSPORT]...", help="Default: all that this machine can run."),
    ] = None,
    producers: Annotated[int, typer.Option(min=1, max=256, help="Number of producers.")] = 3,
    per_producer: Annotated[int, typer.Option(min=1, help="Baozi that each producer makes.")] = 500,
    consumers: Annotated[int, typer.Option(min=1, max=256, help="Number of consumers.")] = 2,
    eat_seconds: Annotated[float, typer.Option(min=0, help="Seconds to eat one baozi.")] = 0,
    make_seconds: Annotated[float, typer.Option(min=0, help="Seconds to make one baozi.")] = 0,
    capacity: Annotated[
        int | None, typer.Option(min=1, help="Baozi that the queue holds; default: no limit.")
    ] = None,
    tray: Annotated[
        int, typer.Option(min=1, max=10_000, help="Baozi on a tray; latency is measured with one.")
    ] = 1,
    repeat: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"How often each flat-out run (default {_REPEAT}) or fault (default 1) is done."
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Seconds after which a run counts as wedged; default 120, with faults less."
        ),
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(
            help=f"Only this fault: {', '.join(COMPARE_FAULTS)}; or none. Default: speed, and all faults."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write results.json and report.html to this folder.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.1, help="Baozi per second of all producers, at the fixed rate.")
    ] = 100,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the order of the runs; default: a random seed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run one workload on each transport, kill processes, and show its speed, losses and duplicates."""
    faults = _faults(fault)
    workload = _workload(
        producers, per_producer, consumers, eat_seconds, make_seconds, capacity, tray, deadline
    )
    times = repeat or (1 if faults else _REPEAT)
    chance = random.randrange(2**32) if seed is None else seed
    plan = ComparisonPlan(_transports(names), workload, rate, times, chance, faults, deadline)
    results = _run(plan, out)
    if as_json:
        print(shown_json(results.model_dump_json()))
    else:
        _print(results)
    if remarks(results):
        raise typer.Exit(ExitCode.LOSS)


def _transports(names: list[str] | None) -> list[Transport]:
    for name in names or []:
        if name not in TRANSPORTS:
            raise UsageError(
                "There is no transport {name!r}; there are {transports}.",
                name=name,
                transports=", ".join(TRANSPORTS),
            )
    chosen = [TRANSPORTS[name] for name in dict.fromkeys(names or TRANSPORTS)]
    if not names and not can_run():
        print("celery is left out: this machine has neither rabbitmq-server nor Docker.", file=sys.stderr)
        chosen = [transport for transport in chosen if transport.is_local]
    return chosen


def _faults(name: str | None) -> list[str] | None:
    if name is None:
        return None
    if name == "none":
        return []
    if name not in COMPARE_FAULTS:
        raise UsageError(
            "There is no fault {name!r}; there are {compare_faults}, and none.",
            name=name,
            compare_faults=", ".join(COMPARE_FAULTS),
        )
    return [name]


def _workload(
    producers: int,
    per_producer: int,
    consumers: int,
    eat_seconds: float,
    make_seconds: float,
    capacity: int | None,
    tray: int,
    deadline: float | None,
) -> Workload:
    fields: dict[str, object] = {
        "run": "side-by-side",
        "producers": _names(_PRODUCERS, producers, "producer"),
        "per_producer": per_producer,
        "consumers": _names(_CONSUMERS, consumers, "consumer"),
        "make_seconds": make_seconds,
        "eat_seconds": eat_seconds,
        "capacity": capacity,
        "tray": tray,
    }
    return checked_workload(**fields | ({"deadline": deadline} if deadline else {}))


def _names(first: tuple[str, ...], how_many: int, then: str) -> tuple[str, ...]:
    return (*first, *(f"{then} {number}" for number in range(len(first) + 1, how_many + 1)))[:how_many]


def _run(plan: ComparisonPlan, out: Path | None) -> ComparisonResults:
    """Run the plan. After each run, write the results so far to ``out``."""
    planned = plan.runs()
    if not planned:
        raise UsageError("None of these transports has a process that stores the baozi; try another fault.")
    folder = ResultsFolder(out) if out is not None else None
    with _progress(len(planned)) as on_run, closing(run_all(plan, on_run)) as so_far:
        for results in so_far:
            if folder is not None:
                folder.write_results(results)
    if folder is not None:
        folder.write_report(results)
    return results


@contextmanager
def _progress(total: int) -> Iterator[Callable[[PlannedRun], None]]:
    """Yield the function to call before each run. It moves a progress bar if stderr is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(file=best_effort(sys.stderr)), transient=True) as bar:
        task = bar.add_task("starting", total=total)
        begun = 0

        def on_run(planned: PlannedRun) -> None:
            nonlocal begun
            bar.update(task, completed=begun, description=planned.title)
            begun += 1

        yield on_run


def _print(results: ComparisonResults) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(verdict_table(results))
    if any(run.measure is not RunKind.FAULT for run in results.runs):
        console.print(speed_table(results))
        for line in legend(results):
            print(shown(line))
    for remark in remarks(results):
        print(shown(remark))
