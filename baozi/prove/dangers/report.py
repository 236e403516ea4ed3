"""The shown dangers as lines for a terminal, as JSON, and as the table of docs/dangers.md."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from baozi.doctor.facts import Version, version_of
from baozi.prove.dangers.catalogue import CITED
from baozi.prove.dangers.demonstration import DANGERS, DEMONSTRATIONS, Demonstration
from baozi.prove.dangers.showing import Shown
from baozi.tables import Table

#: Columns of the lines for a terminal.
_WIDTH = 100


def listed() -> Iterator[str]:
    """Yield a line for each danger, as `--danger help` prints it."""
    for rule in DANGERS.values():
        told = DEMONSTRATIONS[rule.id].does if rule.id in DEMONSTRATIONS else f"only cited: {CITED[rule.id]}."
        yield from textwrap.wrap(f"{rule.id} {rule.severity.word}: {rule.sentence}", _WIDTH)
        yield from textwrap.wrap(told, _WIDTH, initial_indent="      ", subsequent_indent="      ")


def lines(tries: Sequence[Shown]) -> Iterator[str]:
    """Yield what is printed at the end: for each danger the lines of the app, and the numbers."""
    for demonstration, own in _by_rule(tries):
        rule = DANGERS[demonstration.rule]
        yield f"{rule.id} {rule.severity.word}: {rule.sentence}"
        yield from textwrap.wrap(demonstration.does, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        parts = [("with the danger", "danger", [it.with_danger for it in own])]
        if not demonstration.gone:
            parts.append(("with the fix", "fix", [it.with_fix for it in own]))
        for title, part, numbers in parts:
            yield f"  {title}"
            yield from (f"      {it}".rstrip() for it in _code(demonstration, part).splitlines())
            yield f"    {_range(demonstration, numbers)}"
        yield f"  {conclusion(own)}"
        yield ""


def _code(demonstration: Demonstration, part: str) -> str:
    """Return the lines that differ: those of the settings, or those of the code."""
    settings, tasks, other = (
        (demonstration.danger, demonstration.tasks, demonstration.fixed_tasks)
        if part == "danger"
        else (demonstration.fix, demonstration.fixed_tasks, demonstration.tasks)
    )
    if demonstration.instead:
        return demonstration.instead if part == "fix" else ""
    return settings if tasks == other else f"{settings}\n{tasks.strip()}".strip()


def conclusion(tries: Sequence[Shown]) -> str:
    """Return the result of the tries of one danger in a sentence."""
    complete, problems = sum(it.complete for it in tries), sorted({it.problem for it in tries if it.problem})
    versions = ", ".join(sorted({it.rabbitmq for it in tries}))
    done = "Not seen any more" if tries[0].demonstration.gone else "Shown, and fixed,"
    told = f"{done} in {complete} of {len(tries)} tries on RabbitMQ {versions}."
    return " ".join([told, *problems])


def _range(demonstration: Demonstration, numbers: Iterable[int | None]) -> str:
    """Return the numbers of some tries: ``5 of 5 calls lost``, ``3 to 5 of 5 calls lost``."""
    known = [it for it in numbers if it is not None]
    if not known:
        return "not counted"
    least, most = min(known), max(known)
    return demonstration.told(most) if least == most else f"{least:,} to {demonstration.told(most)}"


def _by_rule(tries: Sequence[Shown]) -> Iterator[tuple[Demonstration, list[Shown]]]:
    for name in dict.fromkeys(it.rule for it in tries):
        yield DEMONSTRATIONS[name], [it for it in tries if it.rule == name]


def as_json(tries: Iterable[Shown]) -> dict[str, Any]:
    """Return what ``--json`` prints and ``results.json`` contains."""
    return {"tries": [{**vars(it), "seconds": round(it.seconds, 1), "complete": it.complete} for it in tries]}


def dumped(tries: Iterable[Shown]) -> str:
    """Return ``results.json``."""
    return json.dumps(as_json(tries), indent=1) + "\n"


def recorded(paths: Iterable[Path]) -> list[Shown]:
    """Return the tries of some ``results.json``."""
    found = [it for path in paths for it in json.loads(path.read_text(encoding="utf-8"))["tries"]]
    return [Shown(**{name: value for name, value in it.items() if name != "complete"}) for it in found]


def summary(tries: Sequence[Shown]) -> str:
    """Return what docs/dangers.md says of all tries in a line."""
    seen = {it.rule for it in tries if it.complete and not it.demonstration.gone}
    gone = {it.rule for it in tries if it.complete and it.demonstration.gone}
    versions = ", ".join(sorted({it.celery for it in tries}))
    return (
        f"With Celery {versions}, {len(seen)} dangers were seen and {len(gone)} no longer happen."
        f" {len(DANGERS) - len(seen | gone)} rules are only cited."
    )


def rows(tries: Sequence[Shown]) -> list[str]:
    """Return the table of docs/dangers.md: for each rule a row for each version on which it was tried."""
    table = Table(
        "id", "what happens", "tries", "RabbitMQ", "with the danger", "with the fix", "what is done"
    )
    for rule in DANGERS.values():
        happens, own = f"{rule.severity.word}: {rule.sentence}", [it for it in tries if it.rule == rule.id]
        done = DEMONSTRATIONS[rule.id].does if own else f"only cited: {CITED.get(rule.id, 'not recorded')}."
        versions: list[str | None] = [*sorted({it.rabbitmq for it in own}, key=_numbers)]
        for version in versions or [None]:
            numbers = _numbers_of([it for it in own if it.rabbitmq == version])
            table.add_row(rule.id, happens, *numbers, done)
            happens = done = "the same"
    return table.markdown().splitlines()


def _numbers(version: str) -> Version:
    return version_of(version) or ()


def _numbers_of(tries: Sequence[Shown]) -> tuple[str, ...]:
    if not tries:
        return ("–",) * 4
    demonstration = tries[0].demonstration
    fixed = _range(demonstration, [it.with_fix for it in tries])
    return (
        f"{sum(it.complete for it in tries)} of {len(tries)}",
        tries[0].rabbitmq,
        _range(demonstration, [it.with_danger for it in tries]),
        f"gone: {demonstration.gone}" if demonstration.gone else fixed,
    )
