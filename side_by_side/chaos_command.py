"""The command ``baozi chaos``."""

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
from baozi.faults.single_node import single_node
from baozi.language import Sentence, translated
from baozi.lines import say
from baozi.quantities import count
from baozi.shown import shown, shown_json
from side_by_side.chaos import ChaosPlan, ChaosResults
from side_by_side.chaos import chaos as run_chaos
from side_by_side.chaos_environment import ChaosConfiguration, ChaosEnvironment
from side_by_side.faults.fault import ANY_BROKER, MAIN_JOB, Fault
from side_by_side.faults.registry import CHAOS_FAULTS
from side_by_side.targets.cluster import docker_cluster
from side_by_side.targets.target import BrokerTarget

#: Baozi that a pool process of ``celery-trays`` takes at once, at most.
_TRAY = 20


def chaos(
    seconds: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds after which no new fault begins.")
    ] = 60,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same faults; default: a random seed.")
    ] = None,
    on: Annotated[
        str, typer.Option(help="The kind of broker to start: private, container or cluster.")
    ] = "private",
    transport: Annotated[str, typer.Option(help="celery or celery-trays.")] = "celery-trays",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Inject only this fault; may be repeated. Default: all of {', '.join(CHAOS_FAULTS)}."
        ),
    ] = None,
    times: Annotated[
        int | None, typer.Option(min=1, help="Inject each fault so many times, whatever --seconds says.")
    ] = None,
    pace: Annotated[float, typer.Option(min=0.1, max=1000, help="Baozi per second of each producer.")] = 100,
    away: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds that the broker is away in broker-away.")
    ] = 10,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the results to this file, as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Inject one fault after the other while baozi are made and eaten on a temporary broker; then audit.

    Exit code 1: something was lost, came too often, or work did not go on. The same seed repeats the faults.
    """
    if transport not in MAIN_JOB:
        raise UsageError(
            "`baozi chaos` cannot run on {transport!r}. It can run on celery and celery-trays.",
            transport=transport,
        )
    if on not in ANY_BROKER:
        raise UsageError(
            "There is no broker {on!r}; there are {any_broker}.", on=on, any_broker=", ".join(ANY_BROKER)
        )
    configuration = ChaosConfiguration(
        tray=_TRAY if transport == "celery-trays" else 1, make_seconds=1 / pace, away_seconds=away
    )
    if out is not None:
        _check_that_it_can_be_written(out)
    chosen_seed = random.randrange(2**32) if seed is None else seed
    plan = ChaosPlan(
        on=on,
        transport=transport,
        configuration=configuration,
        faults=_faults(fault, transport, on),
        seed=chosen_seed,
        seconds=seconds if times is None else inf,
        times=times,
    )
    say(translated("seed {seed}", seed=chosen_seed), sys.stderr)
    with _target(on) as target, _folder() as folder:
        results = run_chaos(plan, target, folder, lambda line: say(shown(translated(line)), sys.stderr))
        if not results.sound:
            kept = Path(tempfile.mkdtemp(prefix="baozi-chaos-"))
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            say(translated("Ledger, journals and logs are kept in {folder}.", folder=kept), sys.stderr)
    if out is not None:
        out.write_text(results.model_dump_json(indent=1) + "\n")
    if as_json:
        print(shown_json(results.model_dump_json()))
    else:
        for line in _summary(results):
            print(shown(translated(line)))
    if not results.sound:
        raise typer.Exit(ExitCode.LOSS)


def _check_that_it_can_be_written(out: Path) -> None:
    """Check it before the work, not after it."""
    try:
        out.touch()
    except OSError as error:
        raise UsageError(
            "The file {out} cannot be written: {strerror}.", out=out, strerror=error.strerror
        ) from None


def _faults(names: list[str] | None, transport: str, on: str) -> list[Fault[ChaosEnvironment]]:
    """Return the faults with these names; without names, all that can run there."""
    for name in names or []:
        if name not in CHAOS_FAULTS:
            raise UsageError(
                "There is no fault {name!r}; there are {chaos_faults}.",
                name=name,
                chaos_faults=", ".join(CHAOS_FAULTS),
            )
        if obstacle := CHAOS_FAULTS[name].obstacle(transport, on):
            raise UsageError(obstacle)
    if names:
        return [CHAOS_FAULTS[name] for name in names]
    return [fault for fault in CHAOS_FAULTS.values() if fault.obstacle(transport, on) is None]


def _summary(results: ChaosResults) -> list[Sentence]:
    counts = results.sums
    times: dict[str, list[float]] = {}
    for step in results.steps:
        times.setdefault(step.fault, []).append(step.recovered_after)
    width = max(map(len, times), default=0)
    return [
        *(
            Sentence(
                "{fault}  {count:4} times, worst {worst:6.2f} s",
                fault=name.ljust(width),
                count=len(seconds),
                worst=max(seconds),
            )
            for name, seconds in times.items()
        ),
        Sentence(
            "{transport} on {broker}, seed {seed}, {seconds:.0f} s: {workers} worker kills,"
            " {producers} producer kills, {brokers} broker kills",
            transport=results.transport,
            broker=results.on,
            seed=results.seed,
            seconds=results.seconds,
            workers=results.kills("worker"),
            producers=results.kills("producer"),
            brokers=results.kills("broker"),
        ),
        Sentence(
            "{accepted} accepted, {eaten} eaten, {lost} lost, {twice} eaten twice, {recovered} recovered,"
            " {unexpected} unexpected, {dead} dead",
            accepted=count(counts.accepted),
            eaten=count(counts.eaten),
            lost=count(counts.lost),
            twice=counts.eaten_twice,
            recovered=counts.recovered,
            unexpected=counts.unexpected,
            dead=counts.dead,
        ),
        Sentence(
            "{deliveries} deliveries; at most {most} are allowed",
            deliveries=count(counts.deliveries),
            most=count(counts.most_deliveries),
        ),
        *([Sentence(results.error)] if results.error else []),
    ]


@contextmanager
def _target(on: str) -> Iterator[BrokerTarget]:
    if on == "cluster":
        with docker_cluster() as nodes:
            yield nodes
    else:
        with single_node(on) as node:
            yield node


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="baozi-") as folder:
        yield Path(folder) / "chaos"
