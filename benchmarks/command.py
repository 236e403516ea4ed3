"""``python -m benchmarks``: runs the benchmarks, compares results with the targets, renews the documents."""

import json
import random
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from baozi.broker import engine, private_node
from baozi.broker.temporary import temporary_broker
from baozi.errors import UsageError
from baozi.ledger_url import parsed
from baozi.settings import settings
from baozi.shown import shown_json
from benchmarks import page
from benchmarks.databases import DatabaseServer
from benchmarks.measures import Job, jobs, memory_jobs
from benchmarks.measuring import Rig, TooSlow
from benchmarks.results import BenchmarkResults, Gap, Measure, Turn
from benchmarks.table import tables, targets_table
from benchmarks.targets import TARGETS
from side_by_side.results import this_machine

#: The kinds of broker, as those of ``baozi chaos``: the machine's own RabbitMQ, and 4.3 in a container.
BROKERS = ("private", "container")
#: Turns, and part of the backlogs: of a complete run, and of a quick one.
_TURNS, _QUICK_TURNS = 5, 2
_PART, _QUICK_PART = 1.0, 0.5
#: Settings that each measurement has of its own.
_REPLACED = {"home", "broker_url", "ledger_url"}
_ROOT = Path(__file__).parents[1]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Some ten minutes: only what the targets name, two turns, half backlogs."
        ),
    ] = False,
    on: Annotated[
        list[str] | None,
        typer.Option(
            help="The kind of broker to start: private or container (RabbitMQ 4.3); may be given again."
            " Default: all that this machine can run; with --quick the first."
        ),
    ] = None,
    measure: Annotated[list[Measure] | None, typer.Option(help="Only this; may be given again.")] = None,
    contender: Annotated[list[str] | None, typer.Option(help="Only this; may be given again.")] = None,
    turns: Annotated[
        int | None, typer.Option(min=1, max=100, help=f"Turns of everybody; default: {_TURNS}.")
    ] = None,
    part: Annotated[
        float | None, typer.Option(min=0.01, max=10, help="Part of the usual backlogs; default: 1.")
    ] = None,
    postgresql: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A PostgreSQL server whose user can create databases; default: a container. Put the password"
            " into PGPASSWORD: every user can read command lines.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the order; default: chance.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of results and pictures.")] = Path("bench-results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure ours beside the peers, with default settings first. Without a command, this is done.

    A contender that fails, or for which this machine lacks something, is a row that says so.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    _check_settings()
    measures = set(measure or Measure)
    seed = secrets.randbelow(2**31) if seed is None else seed
    turns = turns or (_QUICK_TURNS if quick else _TURNS)
    part = part or (_QUICK_PART if quick else _PART)
    brokers = _brokers(on, quick)
    if postgresql is not None:
        _check_server(postgresql)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {out} cannot be written: {error.strerror}.") from None
    plan = {
        # The peers that no target names are measured once, on the first broker.
        kind: _plan(measures, contender, turns, part, seed, targets_only=quick or place > 0)
        for place, kind in enumerate(brokers)
    }
    if not any(plan.values()):
        known = ", ".join(dict.fromkeys(row.name for job in _all_jobs(measures, part) for row in job.rows))
        raise UsageError(f"There is no such contender in what is to be measured; there are: {known}.")
    results, whole = _measured(plan, seed, part, postgresql, quick=quick)
    page.keep(results, out)
    if not whole:
        raise KeyboardInterrupt
    if as_json:
        print(shown_json(results.model_dump_json()))
    else:
        for table in tables(results):
            table.print()
    failed = sum(gap.failed for gap in results.gaps)
    if failed:
        everything = failed + len(results.turns)
        raise TooSlow(f"{failed} of {everything} turns failed; the tables say why.")


@app.command("targets")
def compare_targets(
    file: Annotated[Path, typer.Argument(help="The results of a run, such as bench-results/results.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare the results of a run with all targets: met, missed, or not measured and why.

    The exit code is 0 also if a target is missed.
    """
    results = BenchmarkResults.read(file)
    if as_json:
        print(json.dumps([row for its in results.each_broker.items() for row in _compared(*its)], indent=1))
        return
    for broker, its in results.each_broker.items():
        table = targets_table(its)
        table.title = f"{broker}, targets"
        table.print()


@app.command("page")
def renew_page(
    file: Annotated[Path, typer.Argument(help="The results of a run, such as bench-results/results.json.")],
    document: Annotated[Path, typer.Option(help="The document with the two marks.")] = _ROOT
    / "docs/speed.md",
) -> None:
    """Renew docs/speed.md and the pages, pictures and results in docs/speed/ from the results of a run."""
    results = BenchmarkResults.read(file)
    page.renew(results, document)
    print(f"{document} has the picture and the targets of {file}.")


def _refuse_options(context: typer.Context) -> None:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        option = given[0].removeprefix("as_")
        raise UsageError(f"Write no option before the command {context.invoked_subcommand}: --{option}.")


def _check_settings() -> None:
    """Check that this user's own settings do not replace the defaults, which are what is measured."""
    for name in sorted(settings().model_fields_set - _REPLACED):
        variable = f"BAOZI_{name}".upper()
        raise UsageError(f"Unset {variable} first: the benchmarks measure with the default settings.")


def _check_server(url: str) -> None:
    try:
        driver = parsed(url).get_backend_name()
    except ValueError as error:
        raise UsageError(f"The URL of --postgresql {error}.") from None
    if driver != "postgresql":
        raise UsageError("The URL of --postgresql must begin with postgresql://.")


def _brokers(on: list[str] | None, quick: bool) -> list[str]:
    """Return the kinds of broker, in the order in which they are measured."""
    for kind in on or []:
        if kind not in BROKERS:
            raise UsageError(
                "There is no broker {on!r}; there are {brokers}.", on=kind, brokers=", ".join(BROKERS)
            )
    if on:
        return list(dict.fromkeys(on))
    possible = [kind for kind in BROKERS if _can_run(kind)]
    # If there is none, the start of the first has the error that says what to install.
    return possible[: 1 if quick else None] or [BROKERS[0]]


def _can_run(kind: str) -> bool:
    return engine.answers() if kind == "container" else private_node.server() is not None


def _all_jobs(measures: Set[Measure], part: float) -> list[Job]:
    return [*jobs(measures, part), *(memory_jobs(part) if Measure.MEMORY in measures else [])]


def _plan(
    measures: Set[Measure],
    names: list[str] | None,
    turns: int,
    part: float,
    seed: int,
    *,
    targets_only: bool,
) -> list[tuple[int, Job]]:
    """Return the turns of everybody, each turn in an order that chance draws, and the jobs of memory last."""
    named = {(target.measure, name) for target in TARGETS for name in target.contenders}

    def wanted(job: Job) -> bool:
        return any(
            (names is None or row.name in names)
            and (not targets_only or names is not None or (row.measure, row.name) in named)
            for row in job.rows
        )

    chance = random.Random(seed)
    everybody: list[tuple[int, Job]] = []
    for number in range(turns):
        turn = [job for job in jobs(measures, part) if wanted(job)]
        chance.shuffle(turn)
        everybody += [(number, job) for job in turn]
    if Measure.MEMORY in measures:
        # A quick run, too, has the whole backlogs: the target is about them.
        everybody += [(0, job) for job in memory_jobs(1 if targets_only else part) if wanted(job)]
    return everybody


def _measured(
    plan: dict[str, list[tuple[int, Job]]], seed: int, part: float, server: str | None, *, quick: bool
) -> tuple[BenchmarkResults, bool]:
    """Make all turns. Return the results, and whether they are complete: False after Ctrl-C."""
    whole = True
    began = time.time()
    made: list[Turn | Gap] = []
    versions: dict[str, str] = {}
    brokers: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="baozi-bench-") as folder,
        DatabaseServer(server) as databases,
        _progress(sum(map(len, plan.values()))) as progress,
    ):
        try:
            for kind, everybody in plan.items():
                with temporary_broker(kind) as broker:
                    brokers[kind] = broker.record.version or "of unknown version"
                    rig = Rig(broker, databases, Path(folder))
                    for number, job in everybody:
                        made += progress.made(job, rig, kind, number)
                        versions |= rig.versions
        except KeyboardInterrupt:
            whole = False
    machine = this_machine(", ".join(brokers.values()))
    results = BenchmarkResults(
        machine=machine.model_copy(update={"versions": machine.versions | versions}),
        seed=seed,
        began_at=began,
        took=time.time() - began,
        brokers=brokers,
        release=_release(),
        part=part,
        quick=quick,
        turns=[it for it in _in_order(made, plan) if isinstance(it, Turn)],
        gaps=[it for it in _in_order(made, plan) if isinstance(it, Gap)],
    )
    return results, whole


class _Run:
    """Shows what is measured at the moment: a bar on a terminal, otherwise a line for each turn."""

    def __init__(self, bar: Progress, console: Console, count: int) -> None:
        self._bar, self._console = bar, console
        self._task = bar.add_task("", total=count)
        self._count, self._done = count, 0

    def made(self, job: Job, rig: Rig, kind: str, number: int) -> list[Turn | Gap]:
        """Make one turn."""
        row = job.rows[0]
        what = f"{kind}, {row.measure}: {row.name}"
        self._bar.update(self._task, description=what)
        began = time.monotonic()
        made = job.turn(rig, kind, number)
        self._done += 1
        if not self._console.is_terminal:
            took = time.monotonic() - began
            self._console.print(
                Text(f"{self._done} of {self._count}: {what}, turn {number + 1}, {took:.1f} s")
            )
        for gap in made:
            if isinstance(gap, Gap) and gap.failed:
                self._console.print(Text(f"{gap.measure}, {gap.contender} failed: {gap.reason}"))
        self._bar.advance(self._task)
        return made


@contextmanager
def _progress(count: int) -> Iterator[_Run]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield _Run(bar, console, count)


def _in_order(made: list[Turn | Gap], plan: dict[str, list[tuple[int, Job]]]) -> list[Turn | Gap]:
    """Return them in the order of the contenders' list, which is the tables', and not that of chance."""
    rows = [row for job in _all_jobs(set(Measure), 1) for row in job.rows]
    # The rows of smaller backlogs of memory are not among them. They come last.
    places = {(row.measure, row.name): place for place, row in enumerate(rows)}
    brokers = list(plan)
    last = len(places)
    return sorted(
        made,
        key=lambda it: (brokers.index(it.on), places.get((it.measure, it.contender), last), it.turn),
    )


def _compared(broker: str, results: BenchmarkResults) -> list[dict[str, object]]:
    """Return what ``targets --json`` prints of one broker."""
    rows: list[dict[str, object]] = []
    for target in TARGETS:
        ratio = target.ratio(results)
        rows.append(
            {
                "broker": broker,
                "target": target.what,
                "at_least": target.at_least,
                "at_most": target.at_most,
                "median": ratio.median if ratio else None,
                "low": ratio.low if ratio else None,
                "high": ratio.high if ratio else None,
                "result": ("met" if target.met(ratio) else "missed") if ratio else "not measured",
                "reason": None if ratio else target.why_not(results),
            }
        )
    return rows


def _release() -> str:
    """Return the commit of this clone, with a "+" if files were changed; empty if this is no clone."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
