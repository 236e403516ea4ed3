"""The command ``baozi prune``, which deletes proven runs."""

from typing import Annotated

import typer

from baozi.errors import UsageError
from baozi.ledger import Ledger
from baozi.lines import say
from baozi.model import checked_name
from baozi.pruning import Plan, plans
from baozi.pruning import prune as delete
from baozi.runs_command import size
from baozi.settings import settings
from baozi.shown import shown, to_json
from baozi.topology import Topology

#: Seconds of a day.
_DAY = 86_400


def prune(
    wanted: Annotated[list[str] | None, typer.Argument(metavar="[RUN…]", help="Runs; default: all.")] = None,
    older_than: Annotated[
        float, typer.Option(min=0, max=36_500, help="Days since something of a run was eaten or closed.")
    ] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, only say what would be.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete journals and ledger rows of runs that are proven sound; without --yes, only say which.

    A run stays if it is not sound, if some of it are dead letters, or if a message of it could still be
    delivered again. Journals on other machines stay.
    """
    names = [checked_name(name, "run", old=True) for name in wanted or []]
    chosen = settings()
    ledger = Ledger(chosen.ledger)
    try:
        found = plans(
            ledger, chosen.runs, Topology.of(chosen), names, older_than * _DAY, chosen.broker_timeout
        )
        kept = [plan for plan in found if plan.kept]
        if names and kept:
            raise UsageError(f"Nothing is deleted. Run {kept[0].run} stays. {kept[0].kept}")
        deleted = []
        for plan in found:
            if yes and not plan.kept:
                delete(ledger, chosen.runs, plan.run)
                deleted.append(plan.run)
    finally:
        ledger.close()
    if as_json:
        say(to_json({"runs": [plan.model_dump() for plan in found], "deleted": deleted}))
        return
    for plan in found:
        say(shown(_line(plan, yes)))
    if not found:
        say("No run is known.")
    elif not yes and len(kept) < len(found):
        say("Nothing was deleted yet. Run the command again with --yes.")


def _line(plan: Plan, yes: bool) -> str:
    if plan.kept:
        return f"{plan.run} stays. {plan.kept}"
    verb = "Deleted" if yes else "Would delete"
    return f"{verb} {plan.run}: {plan.rows} rows of the ledger, {size(plan.journal_bytes)} of journals."
