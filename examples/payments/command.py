"""The command of the example: runs both apps under the same faults and prints what became of the payments."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from baozi.broker.temporary import temporary_broker
from baozi.errors import ExitCode, UsageError
from baozi.faults.single_node import SingleNode
from baozi.lines import best_effort, say
from baozi.shown import shown_json
from examples.payments.bank import Bank, databases
from examples.payments.trial import Plan, Sums, Trial
from pydantic import BaseModel
from rich.console import Console
from side_by_side.results import Machine, this_machine

#: Each app and the name of its queue.
_APPS = {"plain": "celery", "reliable": "payments"}
#: Seconds between two lines of progress, if there is no terminal.
_A_LINE_EVERY = 20


class Results(BaseModel):
    """The results of the command."""

    machine: Machine
    database: str
    plan: Plan
    plain: Sums
    reliable: Sums


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def payments(
    payments: Annotated[int, typer.Option(min=50, max=10_000_000, help="Payments of each app.")] = 100_000,
    kills: Annotated[int, typer.Option(min=1, max=10_000, help="Kills that each app suffers.")] = 200,
    seed: Annotated[int, typer.Option(help="The same gives the same payments and faults.")] = 1,
    database: Annotated[
        str | None, typer.Option(help="postgresql or sqlite; default: postgresql where Docker is.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of results and logs; default: a new one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Move money with plain Celery and with Reliable, kill everything again and again, and do the sums.

    Exit code 1: with Reliable a payment was lost, or booked twice.
    """
    if payments < 20 * kills:
        raise UsageError(f"{kills} kills need at least {20 * kills} payments, or nothing would be in flight.")
    if database not in {None, "postgresql", "sqlite"}:
        raise UsageError(f"There is no database {database!r}; there are postgresql and sqlite.")
    folder = _made(out)
    plan = Plan(payments=payments, kills=kills, seed=seed)
    sums = []
    with (
        databases(database, folder, list(_APPS)) as urls,
        temporary_broker() as broker,
        _progress() as progress,
    ):
        node = SingleNode(broker)
        for (name, queue), url in zip(_APPS.items(), urls, strict=True):
            with closing(Bank(url)) as bank:
                sums.append(Trial(name, queue, plan, node, bank, folder / name, progress).run())
        machine = this_machine(node.version)
        kind = url.partition(":")[0]
    results = Results(machine=machine, database=kind, plan=plan, plain=sums[0], reliable=sums[1])
    file = folder / "results.json"
    file.write_text(results.model_dump_json(indent=1) + "\n")
    print(shown_json(results.model_dump_json()) if as_json else "\n".join(_table(results)))
    say(f"The results are in {file}, the logs beside it.", sys.stderr)
    if not results.reliable.sound:
        raise typer.Exit(ExitCode.LOSS)


def _made(out: Path | None) -> Path:
    if out is None:
        return Path(tempfile.mkdtemp(prefix="baozi-payments-"))
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"The folder {out} cannot be made: {error.strerror}.") from None
    return out.absolute()


@contextmanager
def _progress() -> Iterator[Callable[[str], object]]:
    """Give what is to be told how far it is: a terminal's line changes, elsewhere one comes now and then."""
    if sys.stderr is not None and sys.stderr.isatty():
        with Console(file=best_effort(sys.stderr)).status("getting ready") as status:
            yield status.update
        return
    said_at = time.monotonic()

    def now_and_then(line: str) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= _A_LINE_EVERY:
            said_at = time.monotonic()
            say(line, sys.stderr)

    yield now_and_then


def _table(results: Results) -> Iterator[str]:
    yield f"{'':10}{'accepted':>10}{'once':>10}{'lost':>10}{'twice':>10}{'difference':>16}"
    for one in (results.plain, results.reliable):
        counts = f"{one.accepted:10}{one.once:10}{one.lost:10}{one.twice:10}"
        yield f"{one.app:10}{counts}{one.difference / 100:16.2f}"
    for one in (results.plain, results.reliable):
        kills = [it for it in one.faults if it.fault.kills]
        hit = sum(it.in_flight > 0 for it in kills)
        yield (
            f"{one.app}: {len(kills)} kills, {hit} of them with work in flight, and"
            f" {len(one.faults) - len(kills)} cuts in {one.seconds:.0f} s; {one.restarts} other restarts"
        )
