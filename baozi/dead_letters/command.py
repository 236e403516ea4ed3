"""The commands ``baozi dead list``, ``show``, ``replay`` and ``drop``, for dead letters."""

import base64
import sys
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any

import typer

from baozi.dead_letters.letter import TRACEBACK, DeadMessage
from baozi.dead_letters.queue import browsing, find, replay
from baozi.errors import UsageError
from baozi.language import Sentence, translated
from baozi.lines import say
from baozi.quantities import count, date
from baozi.shown import shown, to_json
from baozi.tables import Column, Table

app = typer.Typer(no_args_is_help=True, help="The dead letters: look through them, replay or drop them.")

Ids = Annotated[list[str], typer.Argument(metavar="ID…", help="A letter's id, or its first letters.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0.1, max=86_400, help="Seconds to wait for the broker, or a full queue; default 30."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: Characters of a reason in the list.
_REASON = 100
#: Letters in one table. A longer list is several tables: the first is printed before the last letter is read.
_PAGE = 1000


@app.command("list")
def list_command(
    limit: Annotated[
        int | None, typer.Option(min=1, help="Largest number of dead letters; default: all.")
    ] = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """List the dead letters, oldest first, a line each; with --json, an object each."""
    listed = 0
    with browsing(timeout) as browser:
        letters = iter(browser.letters(limit))
        while page := list(islice(letters, 1 if as_json else _PAGE)):
            listed += len(page)
            if as_json:
                print(to_json(_facts(page[0])))
            else:
                _table(page).print()
    if not listed and not as_json:
        print(translated("There are no dead letters."))


@app.command("show")
def show_command(wanted: Ids, timeout: Timeout = None, as_json: Json = False) -> None:
    """Show all of a dead letter: why it died, its headers, its body as it came."""
    _check_ids_not_empty(wanted)
    with browsing(timeout) as browser:
        found = find(browser, wanted)
    for letter in found:
        facts = {**_facts(letter), **_contents(letter)}
        if as_json:
            print(to_json(facts))
            continue
        for name, fact in facts.items():
            for line in _lines(name, fact):
                print(f"{name:12} {line}")


@app.command("replay")
def replay_command(
    wanted: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="As for show.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All current dead letters.")] = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Put dead letters on the queue again; each leaves the dead letters when the broker has it there."""
    if bool(wanted) == everything:
        raise UsageError("Name the dead letters to replay, or give --all.")
    _check_ids_not_empty(wanted or [])
    replayed = 0
    try:
        for _ in replay(None if everything else wanted, timeout):
            replayed += 1
    except BaseException:
        if replayed:
            _say_count("replayed", replayed, as_json)
        raise
    _say_count("replayed", replayed, as_json)


@app.command("drop")
def drop_command(
    wanted: Ids,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Delete dead letters permanently."""
    _check_ids_not_empty(wanted)
    if not yes:
        wanted = _confirmed_ids(wanted, timeout)
    with browsing(timeout) as browser:
        found = find(browser, wanted)
        for letter in found:
            browser.remove(letter)
    _say_count("dropped", len(found), as_json)


def _check_ids_not_empty(wanted: list[str]) -> None:
    """Check that no id is empty, as from an unset shell variable. Every id would begin with it.

    Raises:
        UsageError: an id is empty or blank.
    """
    if not all(map(str.strip, wanted)):
        raise UsageError("An id is empty; give a letter's id, or its first letters.")


def _confirmed_ids(wanted: list[str], timeout: float | None) -> list[str]:
    """Ask for confirmation, and return the full ids of the letters."""
    if not sys.stdin.isatty():
        raise UsageError(
            "There is no terminal to ask whether to delete it permanently. Add --yes to confirm."
        )
    with browsing(timeout) as browser:
        found = find(browser, wanted)
    _table(found).print(sys.stderr)
    one, several = Sentence("Delete this letter permanently?"), Sentence("Delete these letters permanently?")
    typer.confirm(translated(one if len(found) == 1 else several), abort=True, err=True)
    return list({letter.id for letter in found})


def _say_count(what: str, number: int, as_json: bool) -> None:
    sentences = {"replayed": Sentence("{count} replayed."), "dropped": Sentence("{count} dropped.")}
    say(to_json({what: number}) if as_json else translated(sentences[what].template, count=count(number)))


def _facts(letter: DeadMessage) -> dict[str, Any]:
    return {
        "id": letter.id,
        "baozi": ", ".join(baozi.id for baozi in letter.baozi) or None,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "first_at": letter.first_at,
        "last_at": letter.last_at,
        "consumer": letter.consumer,
        "bytes": len(letter.body),
    }


def _contents(letter: DeadMessage) -> dict[str, Any]:
    try:
        body = {"body": letter.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(letter.body).decode()}
    headers = {name: it for name, it in letter.headers.items() if name != TRACEBACK}
    return {"traceback": letter.traceback, "headers": headers, "properties": letter.properties, **body}


def _lines(name: str, fact: object) -> list[str]:
    """Return the lines of a fact: one, or those of a traceback."""
    if fact is None:
        return []
    return [shown(line) for line in (str(fact).splitlines() if name == "traceback" else [fact])]


def _table(letters: Iterable[DeadMessage]) -> Table:
    table = Table(
        translated("id"),
        Column(translated("attempts"), right=True),
        translated("first (UTC)"),
        translated("last (UTC)"),
        Column(translated("consumer"), fold=True),
        Column(translated("reason"), fold=True),
    )
    for letter in letters:
        reason = shown(letter.reason)
        if len(reason) > _REASON:
            reason = reason[:_REASON] + "…"
        first, last = date(letter.first_at), date(letter.last_at)
        table.add_row(letter.id, count(letter.attempts), first, last, shown(letter.consumer or "–"), reason)
    return table
