"""``python -m side_by_side.reliability DIR``: what was measured of faults, as a page of Markdown.

It is made of the results files in DIR alone, which ``baozi compare --out`` and ``baozi chaos --out`` have
left there, so that no number is written by hand.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from baozi import command_line
from baozi.errors import UsageError
from side_by_side import quantities
from side_by_side.chaos_results import ChaosResults, read_chaos
from side_by_side.faults.table import STRIKES
from side_by_side.results import Machine, Results, Run, read_results
from side_by_side.summary import faults, outcome, runs_of, transports

#: The file that is written.
PAGE = "measured.md"


def page(comparisons: Sequence[Results], chaoses: Sequence[ChaosResults]) -> str:
    """Return the page."""
    machines = [it.machine for it in comparisons] + [it.machine for it in chaoses]
    parts = [
        "# Measured",
        "By `baozi chaos` and `baozi compare --fault`, whose results are the files beside this page.",
        *dict.fromkeys(map(_machine, machines)),
        "## Each fault, while work is in flight",
        "Producers put a hundred baozi a second each, two workers eat; one fault after the other is"
        " injected at a moment of a seed's choice. *Lost* and *eaten twice* are those of all runs in which it"
        " was; the time is the longest until the next baozi was eaten, counted from the fault or, where a"
        " fault lasts, its end.",
        _faults(chaoses),
        "## The runs",
        _runs(chaoses),
        "## Each transport",
        "A consumer that eats, one that waits, a producer, or what stores the baozi is killed in mid-work."
        " The verdict is the worst of all tries.",
        _transports(comparisons),
    ]
    return "\n\n".join(parts) + "\n"


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    hardware = f"{machine.processor}, {machine.cores} cores, {quantities.memory(machine.memory)}"
    return f"{hardware}; {machine.system}; Python {machine.python}; {versions}."


def _faults(chaoses: Sequence[ChaosResults]) -> str:
    rows = []
    for name, strike in STRIKES.items():
        among = [it for it in chaoses if any(step.fault == name for step in it.steps)]
        if among:
            rows.append(
                (
                    name,
                    strike.holds,
                    *(
                        _tries(name, [it for it in among if it.transport == who])
                        for who in ("celery", "celery-trays")
                    ),
                    f"{sum(it.sums.lost for it in among)}",
                    f"{sum(it.sums.eaten_twice for it in among)}",
                    quantities.seconds(max(_waits(name, among))),
                )
            )
    names = (
        "fault",
        "what must hold",
        "tries, celery",
        "tries, celery-trays",
        "lost",
        "eaten twice",
        "worst time",
    )
    return _table(names, rows)


def _tries(name: str, among: Sequence[ChaosResults]) -> str:
    return str(len(_waits(name, among)))


def _waits(name: str, among: Iterable[ChaosResults]) -> list[float]:
    return [step.recovered_after for it in among for step in it.steps if step.fault == name]


def _runs(chaoses: Sequence[ChaosResults]) -> str:
    rows = [
        (
            f"{it.transport}, {it.on}",
            str(it.machine.versions.get("rabbitmq", "?")),
            str(it.seed),
            quantities.seconds(round(it.seconds)),
            str(len(it.steps)),
            " / ".join(str(it.kills(whom)) for whom in ("worker", "producer", "broker")),
            "?" if it.sums.accepted is None else f"{it.sums.accepted:,}",
            f"{it.sums.eaten:,}",
            str(it.sums.lost),
            str(it.sums.eaten_twice),
            str(it.sums.recovered),
            str(it.sums.dead),
            f"{it.sums.deliveries:,} of {it.sums.most_deliveries:,}",
            it.error or ("sound" if it.sound else "**not sound**"),
        )
        for it in chaoses
    ]
    names = (
        *(
            "on",
            "RabbitMQ",
            "seed",
            "took",
            "faults",
            "kills of workers / producers / broker",
            "accepted",
            "eaten",
        ),
        *("lost", "eaten twice", "recovered", "dead", "deliveries, of what may be", ""),
    )
    return _table(names, rows)


def _transports(comparisons: Sequence[Results]) -> str:
    rows = []
    for name in dict.fromkeys(name for it in comparisons for name in transports(it)):
        for fault in dict.fromkeys(fault for it in comparisons for fault in faults(it.runs)):
            runs = [run for it in comparisons for run in runs_of(it.runs, name, fault=fault)]
            came = outcome(runs)
            if came is None:
                continue
            waits = [wait for run in runs if (wait := _wait(run)) is not None]
            rows.append(
                (
                    name,
                    fault,
                    str(came.runs),
                    str(came.verdict),
                    f"{sum(run.counts.lost for run in runs)} of {sum(run.counts.accepted for run in runs):,}",
                    str(sum(run.counts.duplicated for run in runs)),
                    quantities.seconds(max(waits)) if len(waits) == len(runs) else "never",
                )
            )
    names = ("transport", "fault", "tries", "verdict", "lost, of accepted", "eaten twice", "worst time")
    return _table(names, rows)


def _wait(run: Run) -> float | None:
    """Seconds from the fault to the next one eaten, to the hundredth part of the run; None: none was."""
    if run.fault_at is None:
        return None
    before = max((moment.eaten for moment in run.timeline if moment.at <= run.fault_at), default=0)
    return next((moment.at - run.fault_at for moment in run.timeline if moment.eaten > before), None)


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [names, ("---",) * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page_of(folder: Path) -> str:
    """Return the page of the results files in ``folder``.

    Raises:
        UsageError: one cannot be read, or is none.
    """
    comparisons, chaoses = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            is_chaos = str(json.loads(path.read_text()).get("format")).startswith("chaos")
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(f"The results in {path} cannot be read: {error}.") from None
        if is_chaos:
            chaoses.append(read_chaos(path))
        else:
            comparisons.append(read_results(path))
    return page(comparisons, chaoses)


def write_page(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the results, NAME.json each.")],
) -> None:
    """Write the page of the results in a folder there."""
    (folder / PAGE).write_text(page_of(folder))


if __name__ == "__main__":
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    command.command()(write_page)
    command_line.run(command)
