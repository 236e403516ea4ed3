"""The command ``baozi status``, which prints the state of broker, workers, ledger and dead letters."""

import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from baozi.quantities import age, memory
from baozi.shown import shown, to_json
from baozi.status import ANSWERS, MOST_LETTERS, Part, Status, collect

#: Moves the cursor to the first line and clears the terminal (ECMA-48: CUP, ED).
_CLEAR = "\x1b[H\x1b[2J"


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two looks.")] = 5,
    timeout: Annotated[
        float, typer.Option(min=0.5, max=300, help="Seconds until each part must have answered.")
    ] = 5,
    letters: Annotated[
        int, typer.Option(min=0, help="Dead letters whose reasons are counted, at most; 0 for none.")
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
            print(clear + "\n".join(map(shown, _lines(seen))), flush=True)
        if not watch:
            raise typer.Exit(seen.exit_code)
        time.sleep(interval)


def _lines(seen: Status) -> Iterator[str]:
    yield f"home          {seen.home} ({seen.home_reason})"
    for name, part in seen.parts.items():
        title = name.replace("_", " ")
        for number, line in enumerate(_part_lines(name, part)):
            yield f"{'' if number else title:12}  {line}"


def _part_lines(name: str, part: Part) -> Iterator[str]:
    if part.problem:
        yield part.problem
    if part.facts:
        yield from _LINES[name](part.facts)


def _broker_lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"RabbitMQ {facts['version'] or '?'} at {facts['url']}"
    for one in facts.get("queues", []):
        yield _queue_line(one)
    if facts.get("management") not in {None, ANSWERS}:
        yield f"management API: {facts['management']}"


def _workers_lines(facts: dict[str, Any]) -> Iterator[str]:
    for worker in facts["workers"]:
        yield from _worker_lines(worker)
    for setting, values in facts["differing_settings"].items():
        told = ", ".join(f"{value} ({worker})" for worker, value in values.items())
        yield f"they differ in {setting}: {told}"


def _ledger_lines(facts: dict[str, Any]) -> Iterator[str]:
    if "bytes" not in facts:
        return
    yield f"schema {facts['schema']}, {memory(facts['bytes'])}, {facts['url']}"
    order = facts["oldest_open_order"]
    if order:
        open_for = age(order["age_seconds"])
        yield f"oldest open order: {order['producer']} of run {order['run']}, for {open_for}"
    else:
        yield "no order is open"


def _letters_lines(facts: dict[str, Any]) -> Iterator[str]:
    if not facts["reasons"]:
        yield "none" if facts["at_most"] else "not looked at"
    for reason, count in facts["reasons"].items():
        yield f"{count} {reason}"
    if facts["looked_at"] == facts["at_most"] > 0:
        yield f"only the first {facts['at_most']} were looked at"


#: The function that formats the facts of each part.
_LINES = {
    "broker": _broker_lines,
    "workers": _workers_lines,
    "ledger": _ledger_lines,
    "dead_letters": _letters_lines,
}


def _queue_line(one: dict[str, Any]) -> str:
    if one["ready"] is None:
        return f"queue {one['name']}: is not there"
    unacknowledged = "?" if one["unacknowledged"] is None else one["unacknowledged"]
    oldest = "" if one["oldest_seconds"] is None else f", oldest {age(one['oldest_seconds'])}"
    return (
        f"queue {one['name']}: {one['ready']} ready, {unacknowledged} unacknowledged, {one['consumers']}"
        f" consumers{oldest}"
    )


def _worker_lines(worker: dict[str, Any]) -> Iterator[str]:
    batches = f", {worker['batches']} batches" if worker["batches"] else ""
    yield (
        f"{worker['name']}: release {worker['version'] or '?'}, up {age(worker['uptime_seconds'])},"
        f" {worker['received']} received, at work on {worker['active']}{batches}"
    )
    for task in worker["tasks"]:
        yield f"  {task['task']} {task['id']}"
