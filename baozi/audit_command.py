"""The command ``baozi audit``, and the table that it prints."""

from pathlib import Path
from typing import Annotated

import typer

from baozi.audit import Audit, Sums, settled_audit
from baozi.dead_letters import queue as dead_letters
from baozi.errors import ExitCode, UsageError
from baozi.language import Sentence, listed, translated
from baozi.ledger import Ledger
from baozi.model import checked_name
from baozi.progress import JournalReader
from baozi.quantities import count
from baozi.settings import settings
from baozi.shown import shown, shown_json
from baozi.tables import Column, Table


def audit(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    wait: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds to wait until orders are closed and eaten.")
    ] = 0,
    orders: Annotated[
        int, typer.Option(min=1, help="Least number of producers that must have an order.")
    ] = 1,
    producer: Annotated[
        list[str] | None, typer.Option(help="Name of a producer that must have an order; may be repeated.")
    ] = None,
    journals: Annotated[
        list[Path] | None,
        typer.Option(help="BAOZI_HOME of another machine's producers, or a copy; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sums as JSON.")] = False,
) -> None:
    """Say what of a run was accepted, eaten, lost or delivered twice; exit 1 unless nothing is lost."""
    run = checked_name(run, "run", old=True)
    names = [checked_name(name, "producer", old=True) for name in producer or []]
    witness = JournalReader(run, _folders(run, journals or []))
    ledger = Ledger(settings().ledger)
    try:
        sums = settled_audit(
            ledger, run, lambda: dead_letters.of_run(run), wait, orders, witness.progress, names
        )
    finally:
        ledger.close()
    print_audit(sums, as_json)
    if not sums.proven:
        raise typer.Exit(ExitCode.LOSS)


def _folders(run: str, others: list[Path]) -> list[Path]:
    """Return the folders of the run's journals: in this BAOZI_HOME, and in ``others`` from other machines.

    Raises:
        UsageError: one of ``others`` has no journal of this run, so that the audit would be incomplete.
    """
    folders = [settings().runs / run]
    for other in others:
        folder = other / "runs" / run
        if not any(folder.glob("*.journal")):
            raise UsageError(
                "There is no journal of run {run} in {folder}. Give another BAOZI_HOME.",
                run=run,
                folder=folder,
            )
        folders.append(folder)
    return folders


def print_audit(sums: Audit, as_json: bool = False) -> None:
    """Print the audit on stdout: as JSON, or as a table with sentences."""
    if as_json:
        print(shown_json(sums.model_dump_json()))
        return
    columns = {
        "accepted": translated("accepted"),
        "eaten": translated("eaten"),
        "lost": translated("lost"),
        "duplicated": translated("duplicated"),
        "recovered": translated("recovered"),
        "unexpected": translated("unexpected"),
        "dead": translated("dead"),
    }
    table = Table(
        Column(translated("producer"), fold=True),
        *(Column(heading, right=True) for heading in columns.values()),
    )
    for row in (*sums.producers, sums.total):
        if row is sums.total:
            table.add_section()
        name = translated("all") if row is sums.total else row.producer
        table.add_row(name, *(count(getattr(row, column)) for column in columns))
    table.print()
    for row in sums.producers:
        for sentence in _remarks(row):
            print(shown(translated(sentence)))
    if sums.dead_reason:
        print(shown(translated("The dead letters are not known: {reason}", reason=sums.dead_reason)))
    for sentence in sums.problems:
        print(shown(translated(sentence)))
    total = sums.total
    print(
        translated(
            "run {run}: {accepted} accepted, {eaten} eaten, {lost} lost, {duplicated} duplicated",
            run=shown(sums.run),
            accepted=count(total.accepted),
            eaten=count(total.eaten),
            lost=count(total.lost),
            duplicated=count(total.duplicated),
        )
    )


def _remarks(row: Sums) -> list[str]:
    name = row.producer
    remarks: list[str] = []
    if row.accepted is None:
        remarks.append(
            Sentence(
                "{producer}: the order is not closed, so how many were accepted is not known.", producer=name
            )
        )
    if row.missing:
        gaps = [
            str(first) if first == last else Sentence("{first} to {last}", first=first, last=last)
            for first, last in row.missing
        ]
        remarks.append(
            Sentence("{producer}: the first missing numbers are {gaps}.", producer=name, gaps=listed(gaps))
        )
    if row.refused:
        remarks.append(
            Sentence(
                "{producer}: {count} not eaten, because another order has their numbers.",
                producer=name,
                count=row.refused,
            )
        )
    if row.dead:
        remarks.append(Sentence("{producer}: {count} in the dead letters.", producer=name, count=row.dead))
    return remarks
