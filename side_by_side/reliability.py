"""``python -m side_by_side.reliability DIR`` writes a page of Markdown about the measured effects of faults.

It is made from the results files in DIR alone, which ``baozi compare --out`` and ``baozi chaos --out`` have
written, so that no number is typed by hand.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from baozi import command_line, quantities
from baozi.errors import UsageError
from baozi.tables import Table
from side_by_side.chaos import ChaosResults, read_chaos
from side_by_side.comparison_results import ComparisonResults, Run, read_results
from side_by_side.faults.registry import CHAOS_FAULTS
from side_by_side.results import Machine
from side_by_side.summary import faults, runs_of, transports, verdict_tally

#: The name of the page's file.
PAGE = "measured.md"


def page(comparisons: Sequence[ComparisonResults], chaoses: Sequence[ChaosResults]) -> str:
    """Return the page of these results."""
    machines = [it.machine for it in comparisons] + [it.machine for it in chaoses]
    parts = [
        "# Measured",
        "By `baozi chaos` and `baozi compare --fault`. The files beside this page are their results.",
        *dict.fromkeys(map(_machine, machines)),
        "## Each fault, while work is going on",
        "Each producer puts a hundred baozi a second, and two workers eat. One fault after the other is"
        " injected at a moment that a seed chooses. *Lost* and *eaten twice* are those of all runs with the"
        " fault. *Worst time* is the longest time from the fault, or from its end if it lasts, to the next"
        " eaten baozi.",
        _faults(chaoses),
        "## The runs",
        _runs(chaoses),
        "## Each transport",
        "A busy consumer, an idle consumer, a producer or the process that stores the baozi is killed while"
        " work is going on. The verdict is the worst of all tries.",
        _transports(comparisons),
    ]
    return "\n\n".join(parts) + "\n"


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    hardware = f"{machine.processor}, {machine.cores} cores, {quantities.memory(machine.memory)}"
    return f"{hardware}; {machine.system}; Python {machine.python}; {versions}."


def _faults(chaoses: Sequence[ChaosResults]) -> str:
    rows = []
    for name, fault in CHAOS_FAULTS.items():
        among = [it for it in chaoses if any(step.fault == name for step in it.steps)]
        if among:
            rows.append(
                (
                    name,
                    fault.holds,
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
            quantities.count(it.sums.accepted),
            quantities.count(it.sums.eaten),
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
        *("lost", "eaten twice", "recovered", "dead", "deliveries, of those allowed", ""),
    )
    return _table(names, rows)


def _transports(comparisons: Sequence[ComparisonResults]) -> str:
    rows = []
    for name in dict.fromkeys(name for it in comparisons for name in transports(it)):
        for fault in dict.fromkeys(fault for it in comparisons for fault in faults(it.runs)):
            runs = [run for it in comparisons for run in runs_of(it.runs, name, fault=fault)]
            tally = verdict_tally(runs)
            if tally is None:
                continue
            waits = [wait for run in runs if (wait := _wait(run)) is not None]
            rows.append(
                (
                    name,
                    fault,
                    str(tally.runs),
                    str(tally.verdict),
                    f"{sum(run.counts.lost for run in runs)} of {sum(run.counts.accepted for run in runs):,}",
                    str(sum(run.counts.duplicated for run in runs)),
                    quantities.seconds(max(waits)) if len(waits) == len(runs) else "never",
                )
            )
    names = ("transport", "fault", "tries", "verdict", "lost, of accepted", "eaten twice", "worst time")
    return _table(names, rows)


def _wait(run: Run) -> float | None:
    """Return the seconds from the fault to the next eaten baozi, to 1 % of the run; None if none."""
    if run.fault_at is None:
        return None
    before = max((moment.eaten for moment in run.timeline if moment.at <= run.fault_at), default=0)
    return next((moment.at - run.fault_at for moment in run.timeline if moment.eaten > before), None)


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    table = Table(*names)
    for row in rows:
        table.add_row(*row)
    return table.markdown()


def page_of(folder: Path) -> str:
    """Return the page of the results files in ``folder``.

    Raises:
        UsageError: a file cannot be read or has no results.
    """
    comparisons, chaoses = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            is_chaos = str(json.loads(path.read_text()).get("format")).startswith("chaos")
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(
                "The results in {path} cannot be read: {error}.", path=path, error=error
            ) from None
        if is_chaos:
            chaoses.append(read_chaos(path))
        else:
            comparisons.append(read_results(path))
    return page(comparisons, chaoses)


def write_page(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the results files, *.json.")],
) -> None:
    """Write the page of the results files in DIR to DIR."""
    (folder / PAGE).write_text(page_of(folder))


if __name__ == "__main__":
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    command.command()(write_page)
    command_line.run(command)
