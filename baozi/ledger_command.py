"""``baozi ledger version | upgrade | adopt``: the ledger on the command line."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from baozi import belonging
from baozi.ledger import Ledger
from baozi.ledger_schema import VERSION
from baozi.lines import say
from baozi.settings import settings
from baozi.shown import shown, to_json
from baozi.topology import Topology

app = typer.Typer(no_args_is_help=True, help="The ledger: see its version, upgrade it, give it the queue.")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("version")
def version_command(as_json: Json = False) -> None:
    """Print the ledger's id, the version of its schema, and the version that this release needs."""
    with _ledger() as ledger:
        version = ledger.version()
        identity = ledger.identity() if version == VERSION else None
    if as_json:
        print(json.dumps({"version": version, "needed": VERSION, "id": identity}))
    else:
        named = f" Its id is {identity}." if identity else ""
        print(f"Ledger schema is version {version}, this release needs {VERSION}.{named}")


@app.command("upgrade")
def upgrade_command(as_json: Json = False) -> None:
    """Upgrade the ledger to the schema version that this release needs; create it if there is none.

    Workers of the release before go on working. Stop nothing; upgrade first, then replace the workers.
    """
    with _ledger() as ledger:
        before = ledger.upgrade()
        after = ledger.version()
    if before == after:
        done = f"Ledger schema is version {after} already."
    elif before is None:
        done = f"Created the ledger with schema version {after}."
    else:
        done = f"Upgraded the ledger from schema version {before} to {after}."
    say(json.dumps({"before": before, "version": after}) if as_json else done)


@app.command("adopt")
def adopt_command(as_json: Json = False) -> None:
    """Make the queue belong to this ledger, because the one that it belonged to is gone for good.

    Stop all workers first. What the other ledger knows as eaten, and is still in the queue, is eaten again.
    """
    with _ledger() as ledger:
        own = ledger.identity()
    before = belonging.adopt(Topology.of(settings()), own)
    said = f"The queue belongs to the ledger {own} now; before, to {before or 'none'}."
    say(to_json({"before": before, "id": own}) if as_json else shown(said))


@contextmanager
def _ledger() -> Iterator[Ledger]:
    ledger = Ledger(settings().ledger)
    try:
        yield ledger
    finally:
        ledger.close()
