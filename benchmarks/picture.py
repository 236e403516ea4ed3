"""A picture of a run: bars with their ranges, one panel a measure, readable without colours."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baozi import quantities
from benchmarks.results import UNITS, BenchmarkResults, Measure
from side_by_side.summary import spread

#: Okabe and Ito's blue and grey, which everybody can tell apart; ours is hatched besides.
_OURS, _THEIRS = "#0072B2", "#BBBBBB"


def draw(results: BenchmarkResults, measure: Measure, path: Path) -> None:
    """Write the picture of one ``measure`` to ``path``, whose name says the format.

    Raises:
        OSError: it cannot be written.
    """
    names = results.contenders(measure)
    figure = Figure(figsize=(8, 0.8 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        _bar(axes, place, name, results, measure)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"{UNITS[measure]}; bar: median, line: range")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
    # No date in the file: the same results give the same picture.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _bar(axes: Axes, place: int, name: str, results: BenchmarkResults, measure: Measure) -> None:
    values = spread(results.values(measure, name))
    if values is None:
        return
    ours = name.startswith(("baozi", "remote_mp", "worker", "producer"))
    axes.barh(
        place,
        values.median,
        color=_OURS if ours else _THEIRS,
        hatch="//" if ours else None,
        edgecolor="white",
    )
    axes.plot([values.low, values.high], [place, place], color="black", linewidth=1.5)
    show = quantities.seconds if measure is Measure.LATENCY else quantities.number
    show = quantities.memory if measure is Measure.MEMORY else show
    axes.annotate(
        show(values.median), (values.high, place), xytext=(6, 0), textcoords="offset points", va="center"
    )
