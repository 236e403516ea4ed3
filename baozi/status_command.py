"""The command ``baozi status``, which prints the state of broker, workers, ledger and dead letters."""

import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import unquote

import typer

from baozi.columns import padded
from baozi.language import Sentence, translated
from baozi.quantities import age, memory
from baozi.shown import shown, to_json
from baozi.status import ANSWERS, MOST_LETTERS, Part, Status, collect

#: Moves the cursor to the first line and clears the terminal (ECMA-48: CUP, ED).
_CLEAR = "\x1b[H\x1b[2J"


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two repetitions.")] = 5,
    timeout: Annotated[
        float, typer.Option(min=0.5, max=300, help="Seconds until each part must have answered.")
    ] = 5,
    letters: Annotated[
        int, typer.Option(min=0, help="Largest number of dead letters whose reasons are counted; 0 for none.")
    ] = MOST_LETTERS,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with --watch a line each time.")
    ] = False,
) -> None:
    """Say how broker, workers, ledger and dead letters stand now; exit with 0 if all are well.

    Exit codes: 3 no broker, 4 no ledger, 6 no worker answers, there is no queue, or a part did not answer in
    time. The parts are looked at in this order, and the first that is not well decides. Dead letters alone
    are no failure.
    """
    while True:
        seen = collect(timeout, letters)
        if as_json:
            told = seen.model_dump(mode="json") | {"exit_code": int(seen.exit_code)}
            print(to_json(told), flush=True)
        else:
            clear = _CLEAR if watch and sys.stdout.isatty() else ""
            print(clear + "\n".join(map(shown, lines(seen))), flush=True)
        if not watch:
            raise typer.Exit(seen.exit_code)
        time.sleep(interval)


def lines(seen: Status) -> Iterator[str]:
    """Yield the lines that the command prints, in the reader's language."""
    yield f"{padded(translated('home'), 12)}  {seen.home} ({translated(seen.home_reason)})"
    for name, part in seen.parts.items():
        title = translated(_TITLES[name])
        for number, line in enumerate(_part_lines(name, part)):
            yield f"{padded('' if number else title, 12)}  {line}"


def _part_lines(name: str, part: Part) -> Iterator[str]:
    if part.problem:
        yield translated(part.problem)
    if part.facts:
        yield from _LINES[name](part.facts)


def _broker_lines(facts: dict[str, Any]) -> Iterator[str]:
    yield translated("RabbitMQ {version} at {url}", version=facts["version"] or "?", url=facts["url"])
    for one in facts.get("queues", []):
        yield _queue_line(one)
    if facts.get("management") not in {None, ANSWERS}:
        yield translated("management API: {problem}", problem=facts["management"])


def _workers_lines(facts: dict[str, Any]) -> Iterator[str]:
    for worker in facts["workers"]:
        yield from _worker_lines(worker)
    for setting, values in facts["differing_settings"].items():
        told = ", ".join(f"{value} ({worker})" for worker, value in values.items())
        yield translated("they differ in {setting}: {values}", setting=setting, values=told)


def _ledger_lines(facts: dict[str, Any]) -> Iterator[str]:
    if "bytes" not in facts:
        return
    yield translated(
        "schema {schema}, {size}, {url}",
        schema=facts["schema"],
        size=memory(facts["bytes"]),
        url=unquote(facts["url"]),  # a path with spaces or Chinese is readable only without escapes
    )
    order = facts["oldest_open_order"]
    if order:
        yield translated(
            "oldest open order: {producer} of run {run}, for {age}",
            producer=order["producer"],
            run=order["run"],
            age=age(order["age_seconds"]),
        )
    else:
        yield translated("no order is open")


def _letters_lines(facts: dict[str, Any]) -> Iterator[str]:
    if not facts["reasons"]:
        yield translated("none") if facts["at_most"] else translated("not looked at")
    for reason, count in facts["reasons"].items():
        yield f"{count} {reason}"
    if facts["looked_at"] == facts["at_most"] > 0:
        yield translated("only the first {count} were looked at", count=facts["at_most"])


_TITLES = {
    "broker": Sentence("broker"),
    "workers": Sentence("workers"),
    "ledger": Sentence("ledger"),
    "dead_letters": Sentence("dead letters"),
}
#: The function that formats the facts of each part.
_LINES = {
    "broker": _broker_lines,
    "workers": _workers_lines,
    "ledger": _ledger_lines,
    "dead_letters": _letters_lines,
}


def _queue_line(one: dict[str, Any]) -> str:
    if one["ready"] is None:
        return translated("queue {name}: does not exist", name=one["name"])
    unacknowledged = "?" if one["unacknowledged"] is None else one["unacknowledged"]
    oldest = one["oldest_seconds"]
    return translated(
        "queue {name}: {ready} ready, {unacknowledged} unacknowledged, {consumers} consumers{oldest}",
        name=one["name"],
        ready=one["ready"],
        unacknowledged=unacknowledged,
        consumers=one["consumers"],
        oldest="" if oldest is None else Sentence(", oldest {age}", age=age(oldest)),
    )


def _worker_lines(worker: dict[str, Any]) -> Iterator[str]:
    batches = Sentence(", {count} batches", count=worker["batches"]) if worker["batches"] else ""
    yield translated(
        "{name}: release {version}, up {age}, {received} received, at work on {active}{batches}",
        name=worker["name"],
        version=worker["version"] or "?",
        age=age(worker["uptime_seconds"]),
        received=worker["received"],
        active=worker["active"],
        batches=batches,
    )
    for task in worker["tasks"]:
        yield f"  {task['task']} {task['id']}"
