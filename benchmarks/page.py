"""A run as a page of Markdown: made from ``results.json`` alone, so that no number is written by hand."""

from baozi.quantities import memory
from benchmarks.results import UNITS, BenchmarkResults, Measure
from benchmarks.table import measure_table, targets_table


def page(results: BenchmarkResults) -> str:
    """Return the page: machine, targets, and each measure's table and picture."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    parts = [
        "# Measured",
        f"By `make bench`, in {results.took / 60:.0f} minutes, seed {results.seed}.",
        f"{machine.processor}, {machine.cores} cores, {memory(machine.memory)}; {machine.system};"
        f" Python {machine.python}; {versions}.",
        targets_table(results).markdown(),
        *(_section(results, measure) for measure in Measure if results.contenders(measure)),
    ]
    return "\n\n".join(parts) + "\n"


def picture_name(measure: Measure) -> str:
    """Return the file's name of a measure's picture."""
    return f"{measure.replace(' ', '-')}.svg"


def _section(results: BenchmarkResults, measure: Measure) -> str:
    title = f"## {measure.capitalize()}: {UNITS[measure]}"
    count = max(len(results.of(measure, name)) for name in results.contenders(measure))
    note = f"Median and range of {count}." if count > 1 else "Measured once."
    picture = f"![{measure}]({picture_name(measure)})"
    return "\n\n".join((title, note, measure_table(results, measure).markdown(), picture))
