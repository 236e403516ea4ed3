"""The pictures of a run, readable without colours.

The cost of the guarantee by task length is a chart of lines. Each other measure has bars with their ranges.
"""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from baozi import quantities
from benchmarks.contenders import LENGTHS_MS, POSTGRESQL, SQLITE, of_length
from benchmarks.results import UNITS, BenchmarkResults, Measure
from benchmarks.targets import TARGETS
from side_by_side.summary import Spread, spread

#: Okabe and Ito's blue, vermilion and grey, which everybody can tell apart; ours is hatched besides.
_OURS, _OTHER, _THEIRS = "#0072B2", "#D55E00", "#BBBBBB"
#: Colour and marker of each database's line, and how far it is moved aside so that the ranges stay apart.
_LINES = {SQLITE: (_OURS, "o", -0.05), POSTGRESQL: (_OTHER, "s", 0.05)}


def draw(results: BenchmarkResults, measure: Measure, path: Path) -> None:
    """Write the picture of one ``measure`` to ``path``, whose name says the format.

    Args:
        results: the results on one broker.
        measure: what the picture shows.
        path: the file.

    Raises:
        OSError: it cannot be written.
    """
    figure = _cost(results) if measure is Measure.TASKS else _bars(results, measure)
    # No date and no random ids in the file: the same results give the same picture.
    with rc_context({"svg.hashsalt": "baozi"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _cost(results: BenchmarkResults) -> Figure:
    """Draw Baozi's rate with a ledger, divided by plain Celery's without one, for each length of a task."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for database, (colour, marker, aside) in _LINES.items():
        points = _ratios(results, database)
        places = [place + aside for place in points]
        medians = [ratio.median for ratio in points.values()]
        below = [ratio.median - ratio.low for ratio in points.values()]
        above = [ratio.high - ratio.median for ratio in points.values()]
        label = f"ledger on {database}" + ("" if points else ": not measured")
        axes.errorbar(
            places, medians, yerr=[below, above], color=colour, marker=marker, capsize=3, label=label
        )
        for place, median in zip(places, medians, strict=True):
            above_line = aside < 0
            axes.annotate(
                f"{median:.2f}",
                (place, median),
                xytext=(-9, 5) if above_line else (9, -5),
                textcoords="offset points",
                ha="right" if above_line else "left",
                va="bottom" if above_line else "top",
                color=colour,
            )
    least = [target.at_least or 0 for target in TARGETS if target.measure is Measure.TASKS][: len(LENGTHS_MS)]
    axes.scatter(
        range(len(LENGTHS_MS)), least, marker="_", s=900, color="black", label="target: at least", zorder=1
    )
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--", zorder=0)
    axes.annotate(
        "as fast as Celery without a ledger",
        (0.01, 1),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4),
        textcoords="offset points",
        va="top",
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    axes.yaxis.set_minor_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "25" else "")
    )
    axes.set_xticks(range(len(LENGTHS_MS)), [f"{length:g} ms" for length in LENGTHS_MS])
    axes.set_xlim(-0.5, len(LENGTHS_MS) - 0.5)
    axes.set_xlabel("how long a task takes")
    axes.set_ylabel("tasks a second, recorded once,\ndivided by Celery's, recorded nowhere")
    axes.set_title("The cost of the guarantee by task length, default settings", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.2)
    axes.legend(frameon=False)
    return figure


def _ratios(results: BenchmarkResults, database: str) -> dict[int, Spread]:
    """Return the ratios of the lengths that were measured, by the place of the length."""
    found = {}
    for place, length in enumerate(LENGTHS_MS):
        name = of_length(f"baozi, {database}", length)
        target = next(it for it in TARGETS if it.measure is Measure.TASKS and it.ours == name)
        ratio = target.ratio(results)
        if ratio is not None:
            found[place] = ratio
    return found


def _bars(results: BenchmarkResults, measure: Measure) -> Figure:
    names = [name for name in results.contenders(measure) if results.of(measure, name)]
    figure = Figure(figsize=(8, 0.8 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        _bar(axes, place, name, results, measure)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"{UNITS[measure]}; bar: median, line: range")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
    return figure


def _bar(axes: Axes, place: int, name: str, results: BenchmarkResults, measure: Measure) -> None:
    turns = results.of(measure, name)
    values = spread(turn.value for turn in turns)
    if values is None:
        return
    # Baozi's own rows: what has its name, and what was measured with different settings of it.
    ours = name.startswith(("baozi", "remote_mp")) or measure in _ALL_OURS
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


#: Measures without peers.
_ALL_OURS = {Measure.EVENTS, Measure.WINDOW, Measure.KNOBS, Measure.MEMORY}
