"""A run as a page of Markdown: made from ``results.json`` alone, so that no number is written by hand."""

from collections.abc import Sequence

from benchmarks.results import UNITS, BenchmarkResults, Measure, Turn
from benchmarks.table import figures, headings
from benchmarks.targets import TARGETS


def page(results: BenchmarkResults) -> str:
    """Return the page: machine, targets, and each measure's table and picture."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    parts = [
        "# Measured",
        f"By `make bench`, in {results.took / 60:.0f} minutes, seed {results.seed}.",
        f"{machine.processor}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB; {machine.system};"
        f" Python {machine.python}; {versions}.",
        _targets(results),
        *(_section(results, measure) for measure in Measure if results.contenders(measure)),
    ]
    return "\n\n".join(parts) + "\n"


def picture_name(measure: Measure) -> str:
    """Return the file's name of a measure's picture."""
    return f"{measure.replace(' ', '-')}.svg"


def _targets(results: BenchmarkResults) -> str:
    rows = [
        (target.what, target.wanted, target.shown(ratio), "met" if target.met(ratio) else "**not met**")
        for target in TARGETS
        if (ratio := target.ratio(results)) is not None
    ]
    return _table(("target", "wanted", "measured", ""), rows)


def _section(results: BenchmarkResults, measure: Measure) -> str:
    rows = []
    for name in results.contenders(measure):
        turns: list[Turn] = results.of(measure, name)
        rows.append((name, *figures(turns, measure), turns[0].promises))
    title = f"## {measure.capitalize()}: {UNITS[measure]}"
    count = max(len(results.of(measure, name)) for name in results.contenders(measure))
    note = f"Median and range of {count}." if count > 1 else "Measured once."
    picture = f"![{measure}]({picture_name(measure)})"
    return "\n\n".join((title, note, _table(("", *headings(measure), "promises"), rows), picture))


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [names, ("---",) * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
