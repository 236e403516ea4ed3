"""``baozi chaos``."""

import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from baozi.errors import ExitCode, UsageError
from baozi.lines import say
from baozi.shown import shown, shown_json
from side_by_side.chaos import Plan
from side_by_side.chaos import chaos as run_chaos
from side_by_side.chaos_results import ChaosResults
from side_by_side.faults.release import is_there
from side_by_side.faults.strike import Strike
from side_by_side.faults.table import STRIKES
from side_by_side.menu import Menu
from side_by_side.targets.cluster import cluster
from side_by_side.targets.single import single
from side_by_side.targets.target import Target

#: What the broker may be.
_ON = ("private", "container", "cluster")
#: Baozi that a pool process of ``celery-trays`` may get at once.
_TRAY = 20


def chaos(
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="After which no fault begins.")] = 60,
    seed: Annotated[
        int | None, typer.Option(help="The same gives the same faults; default: by chance.")
    ] = None,
    on: Annotated[str, typer.Option(help="The broker: private, container or cluster.")] = "private",
    transport: Annotated[str, typer.Option(help="celery or celery-trays.")] = "celery-trays",
    fault: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this one; may be repeated. Default: all of {', '.join(STRIKES)}."),
    ] = None,
    times: Annotated[
        int | None, typer.Option(min=1, help="Each so many times, however long it takes.")
    ] = None,
    pace: Annotated[float, typer.Option(min=0.1, max=1000, help="Baozi a second of each producer.")] = 100,
    away: Annotated[float, typer.Option(min=0, max=3600, help="Seconds a broker is away.")] = 10,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the results there, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Break one thing after the other, on a broker of its own, while baozi are made and eaten; then audit.

    Exit code 1: something was lost, came too often, or did not go on; the same seed does the same again.
    """
    if transport not in {"celery", "celery-trays"}:
        raise UsageError(f"There is no chaos on {transport!r}; there is on celery and celery-trays.")
    if on not in _ON:
        raise UsageError(f"There is no broker {on!r}; there are {', '.join(_ON)}.")
    menu = Menu(tray=_TRAY if transport == "celery-trays" else 1, make_seconds=1 / pace, away_seconds=away)
    if out is not None:
        _see_that_it_can_be_written(out)
    chance = random.randrange(2**32) if seed is None else seed
    plan = Plan(on, transport, menu, _strikes(fault, on), chance, seconds if times is None else inf, times)
    say(f"seed {chance}", sys.stderr)
    with _target(on) as target, _folder() as folder:
        results = run_chaos(plan, target, folder, lambda line: say(shown(line), sys.stderr))
        if not results.sound:
            # Its logs say why.
            kept = Path(tempfile.mkdtemp(prefix="baozi-chaos-"))
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            say(f"Ledger, journals and logs are kept in {kept}.", sys.stderr)
    if out is not None:
        out.write_text(results.model_dump_json(indent=1) + "\n")
    print(shown_json(results.model_dump_json()) if as_json else "\n".join(map(shown, _summary(results))))
    if not results.sound:
        raise typer.Exit(ExitCode.LOSS)


def _see_that_it_can_be_written(out: Path) -> None:
    """Now, and not when all is done."""
    try:
        out.touch()
    except OSError as error:
        raise UsageError(f"The file {out} cannot be written: {error.strerror}.") from None


def _strikes(names: list[str] | None, on: str) -> list[Strike]:
    """The faults by these names; without any, all that can be injected there."""
    for name in names or []:
        if name not in STRIKES:
            raise UsageError(f"There is no fault {name!r}; there are {', '.join(STRIKES)}.")
        if STRIKES[name].needs_cluster and on != "cluster":
            raise UsageError(f"The fault {name} needs --on cluster.")
        if name == "rolling-deploy" and not is_there():
            raise UsageError("The fault rolling-deploy needs a clone with its history, and git.")
    if names:
        return [STRIKES[name] for name in names]
    return [
        strike
        for strike in STRIKES.values()
        if (on == "cluster" or not strike.needs_cluster) and (strike.name != "rolling-deploy" or is_there())
    ]


def _summary(results: ChaosResults) -> list[str]:
    sums = results.sums
    tries: dict[str, list[float]] = {}
    for step in results.steps:
        tries.setdefault(step.fault, []).append(step.recovered_after)
    width = max(map(len, tries), default=0)
    lines = [
        f"{name:{width}}  {len(worst):4} times, worst {max(worst):6.2f} s" for name, worst in tries.items()
    ]
    accepted = "?" if sums.accepted is None else sums.accepted
    return [
        *lines,
        f"{results.transport} on {results.on}, seed {results.seed}, {results.seconds:.0f} s:"
        f" {results.kills('worker')} worker kills, {results.kills('producer')} producer kills,"
        f" {results.kills('broker')} broker kills",
        f"{accepted} accepted, {sums.eaten} eaten, {sums.lost} lost, {sums.eaten_twice} eaten twice,"
        f" {sums.recovered} recovered, {sums.unexpected} unexpected, {sums.dead} dead",
        f"{sums.deliveries} deliveries, at the most {sums.most_deliveries} may be",
        *([results.error] if results.error else []),
    ]


@contextmanager
def _target(on: str) -> Iterator[Target]:
    if on == "cluster":
        with cluster() as nodes:
            yield nodes
    else:
        with single(on) as node:
            yield node


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="baozi-") as folder:
        yield Path(folder) / "kitchen"
