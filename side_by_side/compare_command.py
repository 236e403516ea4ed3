"""``baozi compare``."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from baozi.errors import ExitCode, UsageError
from baozi.lines import best_effort
from baozi.shown import shown, shown_json
from baozi.workload import Workload, checked_workload
from side_by_side.comparison import compare as run_all
from side_by_side.faults.moments import Fault
from side_by_side.keeping import Keeper
from side_by_side.own_broker import can_run
from side_by_side.plan import Job, Plan
from side_by_side.results import Measure, Results
from side_by_side.table import legend, remarks, speed_table, verdict_table
from side_by_side.transports import TRANSPORTS, Transport

#: The course's names, before numbers.
_PRODUCERS, _CONSUMERS = ("alex", "peiqi", "egon"), ("小明", "小红")
#: Columns of the tables where no terminal says how many it has.
_WIDTH = 100
#: How often a flat-out run is repeated.
_REPEAT = 3


def compare(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TRANSPORT]...", help="Default: each this machine can run.")
    ] = None,
    producers: Annotated[int, typer.Option(min=1, max=256, help="How many produce.")] = 3,
    per_producer: Annotated[int, typer.Option(min=1, help="Baozi that each makes.")] = 500,
    consumers: Annotated[int, typer.Option(min=1, max=256, help="How many eat.")] = 2,
    eat_seconds: Annotated[float, typer.Option(min=0, help="Seconds that eating one takes.")] = 0,
    make_seconds: Annotated[float, typer.Option(min=0, help="Seconds that making one takes.")] = 0,
    capacity: Annotated[
        int | None, typer.Option(min=1, help="Baozi the place holds; default: no bound.")
    ] = None,
    tray: Annotated[
        int, typer.Option(min=1, max=10_000, help="Baozi handled at once, but for the latency.")
    ] = 1,
    repeat: Annotated[
        int | None, typer.Option(min=1, help=f"Times of each flat-out run (default {_REPEAT}) or fault (1).")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds after which a run is wedged; default 120, less with faults."),
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(help=f"Only this fault: {', '.join(Fault)}, or none. Default: speed, and all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep results.json, report.html there.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.1, help="Baozi a second, all in all, at the fixed rate.")
    ] = 100,
    seed: Annotated[int | None, typer.Option(help="Of the runs' order; default: by chance.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run one workload on every transport, kill whom one can kill, and say what each gives and loses."""
    faults = _faults(fault)
    workload = _workload(
        producers, per_producer, consumers, eat_seconds, make_seconds, capacity, tray, deadline
    )
    times = repeat or (1 if faults else _REPEAT)
    chance = random.randrange(2**32) if seed is None else seed
    plan = Plan(_transports(names), workload, rate, times, chance, faults, deadline)
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
            raise UsageError(f"There is no transport {name!r}; there are {', '.join(TRANSPORTS)}.")
    chosen = [TRANSPORTS[name] for name in dict.fromkeys(names or TRANSPORTS)]
    if not names and not can_run():
        print("celery is left out, for this machine has neither rabbitmq-server nor Docker.", file=sys.stderr)
        chosen = [transport for transport in chosen if transport.is_local]
    return chosen


def _faults(name: str | None) -> list[Fault] | None:
    if name is None:
        return None
    if name == "none":
        return []
    if name not in set(Fault):
        raise UsageError(f"There is no fault {name!r}; there are {', '.join(Fault)}, and none.")
    return [Fault(name)]


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


def _run(plan: Plan, out: Path | None) -> Results:
    """Run the plan, and keep in ``out`` after each run what there is by then."""
    jobs = plan.jobs()
    if not jobs:
        raise UsageError(
            "None of these transports has a process that stores what was put; try another fault."
        )
    keeper = Keeper(out) if out is not None else None
    with _progress(len(jobs)) as on_job, closing(run_all(plan, on_job)) as stages:
        for results in stages:
            if keeper is not None:
                keeper.keep(results)
    if keeper is not None:
        keeper.report(results)
    return results


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Job], None]]:
    """Give what is to be told of each run: on a terminal it moves a bar, else nothing is said."""
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
        task = bar.add_task("getting ready", total=total)
        begun = 0

        def on_job(job: Job) -> None:
            nonlocal begun
            bar.update(task, completed=begun, description=job.title)
            begun += 1

        yield on_job


def _print(results: Results) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(verdict_table(results))
    if any(run.measure is not Measure.FAULT for run in results.runs):
        console.print(speed_table(results))
        for line in legend(results):
            print(shown(line))
    for remark in remarks(results):
        print(shown(remark))
