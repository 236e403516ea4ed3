"""The throughput bars: baozi per second that are accepted and eaten on each transport."""

from collections.abc import Callable

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from side_by_side.charts.drawing import COLOURS, GROUND, INK, NARROW, WIDE, Picture, canvas, short, svg
from side_by_side.comparison_results import ComparisonResults, Run, RunKind
from side_by_side.quantities import number
from side_by_side.summary import Spread, runs_of, spread_of, transports

#: Above this ratio of the fastest to the slowest, the slowest bar would be invisible on a linear scale.
_LOGARITHMIC_FROM = 30
#: The thickness of a bar, and the distance of its middle from the middle of its transport. A transport has a
#: height of 1; on a narrow screen its upper part is for the name.
_THICK, _ASIDE = 0.29, 0.17

_RATES: list[tuple[str, str, str | None, Callable[[Run], float]]] = [
    ("accepted", COLOURS[0], None, lambda run: run.accepted_per_second),
    ("eaten", COLOURS[4], "///", lambda run: run.eaten_per_second),
]
_Bars = dict[str, list[Spread | None]]


def throughput(results: ComparisonResults) -> Picture | None:
    """Draw the bars of the flat-out runs; None if there are none."""
    bars: _Bars = {}
    for name in transports(results):
        if runs := runs_of(results.runs, name, RunKind.FLAT_OUT):
            bars[name] = [spread_of(runs, value) for *_, value in _RATES]
    if not bars:
        return None
    return Picture(_draw(bars, WIDE, "throughput-wide"), _draw(bars, NARROW, "throughput-narrow"))


def _draw(bars: _Bars, width: int, key: str) -> Markup:
    narrow = width == NARROW
    a_transport = 64 if narrow else 50
    with canvas(width, a_transport * len(bars) + 60) as (figure, axes):
        _scale(axes, bars, 0.34 if narrow else 0.16)
        axes.set_ylim(len(bars) - 0.5, -0.62 if narrow else -0.5)
        for place, (name, spreads) in enumerate(bars.items()):
            for side, spread, (_, colour, hatch, _) in zip((-1, 1), spreads, _RATES, strict=True):
                _bar(axes, place + side * _ASIDE + (0.1 if narrow else 0), spread, colour, hatch)
            if narrow:
                across = axes.get_yaxis_transform()
                axes.text(0, place - 0.33, short(name), transform=across, weight="bold", size=12)
        axes.set_yticks([] if narrow else range(len(bars)), [] if narrow else list(map(short, bars)), size=13)
        axes.spines["left"].set_visible(False)
        return svg(figure, key, "Baozi a second, flat out", _said(bars))


def _scale(axes: Axes, bars: _Bars, room: float) -> None:
    """Set the scale; ``room`` is the part of the width at the right that is free for the numbers."""
    values = [value for spreads in bars.values() for spread in spreads if spread for value in spread.values]
    seen = [value for value in values if value > 0] or [1.0]
    low, high = min(seen), max(seen)
    label = "baozi a second"
    if high / low > _LOGARITHMIC_FROM:
        axes.set_xscale("log")
        left = low / 3
        axes.set_xlim(left, left * (high / left) ** (1 / (1 - room)))
        axes.xaxis.set_major_locator(LogLocator(10, numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
        label += ", each line is ten times the one before"
    else:
        axes.set_xlim(0, high / (1 - room))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_xlabel(label)
    axes.grid(axis="x")


def _bar(axes: Axes, place: float, spread: Spread | None, colour: str, hatch: str | None) -> None:
    start = axes.get_xlim()[0]
    if spread is None or spread.median <= start:
        axes.text(start, place, "  none", va="center", size=11)
        return
    # A hatched bar has an edge in its own colour, so that it looks as strong as a full one.
    face = GROUND if hatch else colour
    axes.barh(
        place,
        spread.median - start,
        _THICK,
        left=start,
        facecolor=face,
        edgecolor=colour,
        linewidth=1.2,
        hatch=hatch,
    )
    low, high = max(spread.low, start), spread.high
    if high > low:
        axes.plot([low, high], [place, place], color=GROUND, linewidth=4, solid_capstyle="butt")
        axes.plot([low, high], [place, place], color=INK, linewidth=1.4, marker="|", markersize=9)
    text = number(spread.median) + (" unstable" if spread.unstable else "")
    axes.annotate(text, (high, place), (8, 0), textcoords="offset points", va="center", size=11)


def _said(bars: _Bars) -> str:
    medians = {
        name: [number(spread.median) if spread else "none" for spread in spreads]
        for name, spreads in bars.items()
    }
    each = "; ".join(f"{name} {' and '.join(two)}" for name, two in medians.items())
    return f"Medians, accepted and eaten: {each}."
