"""The commands ``baozi ledger version``, ``baozi ledger upgrade`` and ``baozi ledger adopt``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from baozi import queue_ownership
from baozi.language import translated
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
    """Print the ledger's id, its queue, its schema's version, and the version that this release needs."""
    with _ledger() as ledger:
        version = ledger.version()
        identity, queue = (ledger.identity(), ledger.queue()) if version == VERSION else (None, None)
    if as_json:
        print(to_json({"version": version, "needed": VERSION, "id": identity, "queue": queue}))
    else:
        print(
            translated(
                "Ledger schema is version {version}, this release needs {needed}.",
                version=version,
                needed=VERSION,
            ),
            end="",
        )
        if identity and queue:
            owner = translated(
                "Its id is {id}. It belongs to the queue {queue}.", id=identity, queue=shown(queue)
            )
        else:
            owner = translated("Its id is {id}. It belongs to no queue yet.", id=identity)
        print(f" {owner}" if identity else "")


@app.command("upgrade")
def upgrade_command(as_json: Json = False) -> None:
    """Upgrade the ledger to the schema version that this release needs; create it if there is none.

    Workers of the release before go on working. Stop nothing; upgrade first, then replace the workers.
    """
    with _ledger() as ledger:
        before = ledger.upgrade()
        after = ledger.version()
    if before == after:
        done = translated("Ledger schema is version {version} already.", version=after)
    elif before is None:
        done = translated("Created the ledger with schema version {version}.", version=after)
    else:
        done = translated(
            "Upgraded the ledger from schema version {before} to {version}.", before=before, version=after
        )
    say(json.dumps({"before": before, "version": after}) if as_json else done)


@app.command("adopt")
def adopt_command(as_json: Json = False) -> None:
    """Make the queue and this ledger belong to each other, because what they belonged to is gone for good.

    Stop all workers first. What another ledger knows as eaten, and is still in the queue, is eaten again.
    """
    topology = Topology.of(settings())
    with _ledger() as ledger:
        own = ledger.identity()
        before = queue_ownership.adopt(topology, ledger)
    none = translated("none")
    said = translated(
        "The queue {queue} belongs to the ledger {ledger} now; before, to {ledger_before}."
        " The ledger belongs to the queue {queue} now; before, to {queue_before}.",
        queue=topology.name,
        ledger=own,
        ledger_before=before.ledger or none,
        queue_before=before.queue or none,
    )
    result = {"before": before.ledger, "id": own, "queue": topology.name, "queue_before": before.queue}
    say(to_json(result) if as_json else shown(said))


@contextmanager
def _ledger() -> Iterator[Ledger]:
    ledger = Ledger(settings().ledger)
    try:
        yield ledger
    finally:
        ledger.close()
