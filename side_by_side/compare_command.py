"""The command ``baozi compare``."""

import random
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from baozi.broker.temporary import can_run
from baozi.errors import ExitCode, UsageError
from baozi.language import translated
from baozi.lines import best_effort, say
from baozi.quantities import count, seconds
from baozi.shown import shown, shown_json
from baozi.workload import Workload, checked_workload
from side_by_side.comparison import ComparisonPlan, PlannedRun
from side_by_side.comparison import compare as run_all
from side_by_side.comparison_results import ComparisonResults
from side_by_side.comparison_table import legend, remarks, run_title, speed_tables, verdict_table
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.findings import findings
from side_by_side.results_folder import ResultsFolder
from side_by_side.transports import TRANSPORTS, Transport

#: The course's names; further names have numbers.
_PRODUCERS, _CONSUMERS = ("alex", "peiqi", "egon"), ("小明", "小红")
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
    open_report: Annotated[
        bool, typer.Option("--open", help="Open the report in a browser at the end; needs --out.")
    ] = False,
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
    if open_report and out is None:
        raise UsageError("--open needs a report: give its folder with --out DIR.")
    results = _run(plan, out)
    if as_json:
        print(shown_json(results.model_dump_json()))
    else:
        _print(results)
    if out is not None:
        _say_report(out / "report.html", open_report, sys.stderr if as_json else sys.stdout)
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
        print(
            translated("celery is left out: this machine has neither rabbitmq-server nor Docker."),
            file=sys.stderr,
        )
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
    with _progress(len(planned)) as progress, closing(run_all(plan, progress.begin)) as so_far:
        for results in so_far:
            if folder is not None:
                folder.write_results(results)
            progress.done(results)
    if folder is not None:
        folder.write_report(results)
    return results


class _Lines:
    """Prints a line to stderr after each run, for a log."""

    def __init__(self, total: int) -> None:
        """Take the number of runs, and say it."""
        self._total = total
        self._done = 0
        say(
            translated("{count} runs, each of one transport, without or with one fault.", count=count(total)),
            sys.stderr,
        )

    def begin(self, planned: PlannedRun) -> None:
        """Print nothing."""

    def done(self, results: ComparisonResults) -> None:
        """Print the verdict of the last run, if it is new."""
        if len(results.runs) == self._done:
            return
        self._done = len(results.runs)
        run = results.runs[-1]
        line = translated(
            "{done} of {total}  {run}: {verdict}, lost {lost} of {accepted}, {time}",
            done=self._done,
            total=self._total,
            run=run_title(run),
            verdict=run.verdict,
            lost=count(run.counts.lost),
            accepted=count(run.counts.accepted),
            time=seconds(run.seconds),
        )
        say(shown(line), sys.stderr)


class _Bar:
    """Moves a progress bar on a terminal."""

    def __init__(self, bar: Progress, total: int) -> None:
        """Add a task of ``total`` runs to ``bar``."""
        self._bar = bar
        self._task = bar.add_task(translated("starting"), total=total)

    def begin(self, planned: PlannedRun) -> None:
        """Show which run is being done."""
        self._bar.update(self._task, description=translated(planned.title))

    def done(self, results: ComparisonResults) -> None:
        """Show how many runs are done."""
        self._bar.update(self._task, completed=len(results.runs))


@contextmanager
def _progress(total: int) -> Iterator[_Lines | _Bar]:
    """Show on stderr what is being done: with a progress bar if it is a terminal, or else in lines."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _Lines(total)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(file=best_effort(sys.stderr)), transient=True) as bar:
        yield _Bar(bar, total)


def _print(results: ComparisonResults) -> None:
    verdict_table(results).print()
    tables = speed_tables(results)
    for table in tables:
        table.print()
    if tables:
        for line in legend(results):
            print(shown(translated(line)))
    for sentence in (*findings(results), *remarks(results)):
        print(shown(translated(sentence)))


def _say_report(path: Path, open_it: bool, file: TextIO) -> None:
    say(translated("The report is {path}.", path=shown(path)), file)
    if open_it and not webbrowser.open(path.absolute().as_uri()):
        say(translated("No browser could be started. Open the report yourself."), sys.stderr)
