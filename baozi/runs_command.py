"""The command ``baozi runs``, which lists the runs."""

from typing import Annotated

import typer

from baozi.language import Sentence, translated
from baozi.ledger import Ledger
from baozi.quantities import count, date, memory
from baozi.runs import State
from baozi.runs import runs as all_runs
from baozi.settings import settings
from baozi.shown import shown, shown_json
from baozi.tables import Column, Table

#: The columns of the table: the title of each, and whether it has numbers.
_COLUMNS: dict[str, bool] = {
    Sentence("run"): False,
    Sentence("state"): False,
    Sentence("accepted"): True,
    Sentence("eaten"): True,
    Sentence("lost"): True,
    Sentence("twice"): True,
    Sentence("rows"): True,
    Sentence("journal"): True,
    Sentence("last (UTC)"): False,
}
#: The states as the reader's words. JSON has the English ones.
_STATES: dict[State, Sentence] = {
    State.SOUND: Sentence("sound"),
    State.OPEN: Sentence("open"),
    State.LOST: Sentence("lost"),
    State.UNPROVEN: Sentence("unproven"),
}


def runs(
    as_json: Annotated[bool, typer.Option("--json", help="Print each run as JSON, one in a line.")] = False,
) -> None:
    """List the runs that the ledger or a journal knows, with their sums, sizes and states.

    The state is sound, open, lost or unproven; `baozi audit RUN` says why. Dead letters are not looked at:
    those of a run are among its lost.
    """
    home = settings()
    ledger = Ledger(home.ledger)
    try:
        found = all_runs(ledger, home.runs)
        if as_json:
            for one in found:
                print(shown_json(one.model_dump_json()))
            return
        listed = list(found)
    finally:
        ledger.close()
    if not listed:
        print(
            translated(
                "No run is known. BAOZI_HOME is {home} ({reason}).",
                home=shown(home.home.absolute()),
                reason=home.home_reason,
            )
        )
        return
    table = Table(
        # A name may be wrapped, a number never.
        *(
            Column(translated(name), right=is_number, fold=not is_number)
            for name, is_number in _COLUMNS.items()
        )
    )
    for one in listed:
        counts = map(count, (one.accepted, one.eaten, one.lost, one.duplicated, one.rows))
        state = translated(_STATES[one.state])
        table.add_row(one.run, state, *counts, memory(one.journal_bytes), date(one.last_at))
    table.print()
