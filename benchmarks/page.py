"""A run as pages of Markdown: made from ``results.json`` alone, so that no number is written by hand.

The command writes a page with all tables and pictures, and the part of ``docs/speed.md`` between two marks.
"""

from pathlib import Path

from baozi.errors import UsageError
from baozi.quantities import date, memory
from benchmarks.picture import draw
from benchmarks.results import UNITS, WORKLOADS, BenchmarkResults, Measure
from benchmarks.table import measure_table, targets_table

#: The lines in ``docs/speed.md`` between which the command writes.
BEGIN, END = "<!-- benchmarks page: begin -->", "<!-- benchmarks page: end -->"


def page(results: BenchmarkResults) -> str:
    """Return the page: machine, targets, and each measure's table and picture, for each broker."""
    parts = ["# Measured", *_conditions(results)]
    for broker, its in results.each_broker.items():
        parts += [f"## Targets, {broker}", targets_table(its).markdown()]
    for broker, its in results.each_broker.items():
        parts += [_section(results, its, measure, broker) for measure in Measure if its.contenders(measure)]
    return "\n\n".join(parts) + "\n"


def summary(results: BenchmarkResults) -> str:
    """Return the part of ``docs/speed.md`` that the command writes: the picture and the targets."""
    parts = []
    for place, (broker, its) in enumerate(results.each_broker.items()):
        if its.contenders(Measure.TASKS):
            name = picture_name(results, Measure.TASKS, place)
            parts.append(f"![the cost of the guarantee by task length, {broker}](speed/{name})")
        else:
            parts.append(f"The cost of the guarantee by task length was not measured in this run ({broker}).")
    parts += _conditions(results)
    for broker, its in results.each_broker.items():
        parts += [f"**Targets, {broker}**", targets_table(its).markdown()]
    parts.append(
        f"All tables and pictures of this run: [speed/{page_name(results)}](speed/{page_name(results)})."
    )
    return "\n\n".join(parts)


def keep(results: BenchmarkResults, folder: Path) -> None:
    """Write the results, the page and its pictures to ``folder``.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / results_name(results)).write_text(results.model_dump_json(indent=1))
        for place, its in enumerate(results.each_broker.values()):
            for measure in Measure:
                if its.contenders(measure):
                    draw(its, measure, folder / picture_name(results, measure, place))
        (folder / page_name(results)).write_text(page(results))
    except OSError as error:
        raise UsageError(f"The folder {folder} cannot be written: {error.strerror}.") from None


def renew(results: BenchmarkResults, document: Path) -> None:
    """Write the results beside ``document``, and its part between the marks.

    Raises:
        UsageError: the document cannot be read or written, or has no marks.
    """
    try:
        text = document.read_text()
    except OSError as error:
        raise UsageError(f"{document} cannot be read: {error.strerror}.") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UsageError(f"{document} does not have the lines {BEGIN!r} and {END!r}.")
    keep(results, document.with_suffix(""))
    document.write_text(f"{before}{BEGIN}\n\n{summary(results)}\n\n{END}{after}")


def results_name(results: BenchmarkResults) -> str:
    """Return the name of the file of the results. A quick run does not replace a complete one."""
    return "quick.json" if results.quick else "results.json"


def page_name(results: BenchmarkResults) -> str:
    """Return the name of the page's file."""
    return "quick.md" if results.quick else "measured.md"


def picture_name(results: BenchmarkResults, measure: Measure, place: int = 0) -> str:
    """Return the file's name of a measure's picture.

    Args:
        results: the results.
        measure: the measure.
        place: which of the run's brokers it is. The first one has no suffix.
    """
    prefix = "quick-" if results.quick else ""
    suffix = f"-{list(results.brokers)[place]}" if place else ""
    return f"{prefix}{measure.replace(' ', '-')}{suffix}.svg"


def _conditions(results: BenchmarkResults) -> list[str]:
    """Return when, how and where the run was made."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    how = "`make bench-quick`" if results.quick else "`make bench`"
    release = f", commit {results.release}" if results.release else ""
    part = f", {results.part:g} of the usual backlogs" if results.part != 1 else ""
    return [
        f"Measured on {date(results.began_at)} UTC by {how}{release}, in {results.took / 60:.0f} minutes,"
        f" seed {results.seed}{part}.",
        f"{machine.processor}, {machine.cores} cores, {memory(machine.memory)}; {machine.system};"
        f" Python {machine.python}; {versions}.",
    ]


def _section(results: BenchmarkResults, its: BenchmarkResults, measure: Measure, broker: str) -> str:
    title = f"## {measure.capitalize()}: {UNITS[measure]}, {broker}"
    count = max(len(its.of(measure, name)) for name in its.contenders(measure))
    note = f"Median and range of {count}." if count > 1 else "Measured once."
    place = list(results.brokers).index(next(iter(its.brokers)))
    picture = f"![{measure}]({picture_name(results, measure, place)})"
    return "\n\n".join(
        (title, f"{WORKLOADS[measure]} {note}", measure_table(its, measure).markdown(), picture)
    )
