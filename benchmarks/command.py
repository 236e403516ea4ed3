"""``python -m benchmarks``: one run, everybody in turn, in an order that chance draws."""

import json
import random
import secrets
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from baozi.broker.temporary import TemporaryBroker, temporary_broker
from baozi.errors import UsageError
from baozi.shown import shown_json
from benchmarks.measures import Job, jobs, memory_jobs
from benchmarks.measuring import TooSlow
from benchmarks.page import page, picture_name
from benchmarks.picture import draw
from benchmarks.results import BenchmarkResults, Measure, Turn
from benchmarks.table import tables
from side_by_side.results import this_machine


def bench(
    measure: Annotated[list[Measure] | None, typer.Option(help="Only this; may be given again.")] = None,
    contender: Annotated[list[str] | None, typer.Option(help="Only this; may be given again.")] = None,
    turns: Annotated[int, typer.Option(min=1, max=100, help="Turns of everybody.")] = 5,
    part: Annotated[float, typer.Option(min=0.01, max=10, help="Part of the usual backlogs.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Of the order; default: chance.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of results and pictures.")] = Path("bench-results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure ours beside the peers: publish, eat, both at once, latency, queues, growth, knobs, memory."""
    wanted = set(measure or Measure)
    seed = secrets.randbelow(2**31) if seed is None else seed
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {out} cannot be written: {error.strerror}.") from None
    chance = random.Random(seed)
    everybody: list[tuple[int, Job]] = []
    for number in range(turns):
        turn = _chosen(jobs(wanted, part), contender)
        chance.shuffle(turn)
        everybody += [(number, job) for job in turn]
    if Measure.MEMORY in wanted:
        everybody += [(0, job) for job in _chosen(memory_jobs(), contender)]
    if not everybody:
        known = ", ".join(dict.fromkeys(job.name for job in [*jobs(wanted), *memory_jobs()]))
        raise UsageError(f"There is no such contender in what is to be measured; there are: {known}.")
    began = time.time()
    with temporary_broker() as broker:
        made = _make(broker, everybody)
        results = BenchmarkResults(
            machine=this_machine(broker.record.version),
            seed=seed,
            began_at=began,
            took=time.time() - began,
            turns=_in_order(made, wanted),
        )
    _keep(results, out)
    if as_json:
        print(shown_json(results.model_dump_json()))
    else:
        for table in tables(results):
            table.print()
    if len(made) < len(everybody):
        raise TooSlow(f"{len(everybody) - len(made)} of {len(everybody)} turns were not done in time.")


def _chosen(made: list[Job], names: list[str] | None) -> list[Job]:
    return [job for job in made if names is None or job.name in names]


def _make(broker: TemporaryBroker, everybody: list[tuple[int, Job]]) -> list[Turn]:
    console = Console(stderr=True)
    made = []
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(everybody))
        for number, job in everybody:
            bar.update(task, description=f"{job.measure}: {job.name}")
            # One that fails takes nobody else's turns along: it has one less, or none, and it is said.
            try:
                made.append(job.turn(broker, number))
            except TooSlow as error:
                console.print(Text(f"{job.measure}, turn {number + 1}: {error}"))
            bar.advance(task)
    return made


def _in_order(made: list[Turn], wanted: set[Measure]) -> list[Turn]:
    """In the order of the contenders' list, which is the tables', and not that of chance."""
    names = [(job.measure, job.name) for job in [*jobs(wanted), *memory_jobs()]]
    return sorted(made, key=lambda turn: (names.index((turn.measure, turn.contender)), turn.turn))


def _keep(results: BenchmarkResults, out: Path) -> None:
    try:
        (out / "results.json").write_text(json.dumps(results.model_dump(mode="json"), indent=1))
        for measure in Measure:
            if results.contenders(measure):
                draw(results, measure, out / picture_name(measure))
        (out / "measured.md").write_text(page(results))
    except OSError as error:
        raise UsageError(f"The folder {out} cannot be written: {error.strerror}.") from None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(bench)
